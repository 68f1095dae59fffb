//! Engine data ⇄ JSON text with camelCase fields.
//!
//! Only names that the engine gave (struct fields) change their case. Keys of maps are the user's (metadata, tool
//! arguments, vendor options) and cross as they are. Words that are values (`tool_call`, `rate_limited`) are the same
//! in every language.

use serde::{
    Serialize, Serializer,
    de::DeserializeOwned,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::{Map, Value};
use std::borrow::Cow;
use stepwell::{Error, Result};

/// Fields whose content is the user's own: nothing below them is renamed.
const VERBATIM: [&str; 8] = [
    "metadata",
    "arguments",
    "value",
    "providerOptions",
    "raw",
    "parameters",
    "payload",
    "schema",
];

/// Engine data as JSON text.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    write(value, false)
}

/// The same for a struct with flattened members: serde shows it as a map, whose keys are the engine's all the same.
pub(crate) fn to_json_flat<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    write(value, true)
}

fn write<T: Serialize + ?Sized>(value: &T, is_flat: bool) -> Result<String> {
    let mut text = Vec::with_capacity(96);
    let camel = Camel {
        inner: &mut serde_json::Serializer::new(&mut text),
        is_flat,
    };
    value
        .serialize(camel)
        .map_err(|error| Error::internal(format!("a value cannot be written as JSON: {error}")))?;
    String::from_utf8(text).map_err(|_| Error::internal("JSON that is not UTF-8"))
}

/// A JSON object with more members in front.
pub(crate) fn with_members(object: &str, members: &[(&str, String)]) -> String {
    let mut text = String::from("{");
    for (name, json) in members {
        text.push('"');
        text.push_str(name);
        text.push_str("\":");
        text.push_str(json);
        text.push(',');
    }
    match object.strip_prefix('{') {
        Some("}") => {
            text.pop();
            text.push('}');
        }
        Some(rest) => text.push_str(rest),
        None => return object.to_owned(),
    }
    text
}

/// What JavaScript handed over, read as engine data.
pub(crate) fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    read(what, snake(parse(what, text)?))
}

/// JSON text as it is, nothing renamed.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| misfit(what, &error))
}

/// A JSON value read as engine data, nothing renamed.
pub(crate) fn read<T: DeserializeOwned>(what: &str, value: Value) -> Result<T> {
    T::deserialize(value).map_err(|error| misfit(what, &error))
}

/// Serde quotes strings that do not fit; a prompt must not enter an error.
fn misfit(what: &str, error: &serde_json::Error) -> Error {
    let mut message = String::new();
    for (number, piece) in error.to_string().split('"').enumerate() {
        message.push_str(if number % 2 == 0 { piece } else { "\"…\"" });
    }
    Error::invalid(what, message)
}

/// `camelCase` fields as `snake_case`, the user's own content untouched.
pub(crate) fn snake(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(snake).collect(),
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(key, value)| {
                    let value = if VERBATIM.contains(&key.as_str()) {
                        value
                    } else {
                        snake(value)
                    };
                    (snake_word(&key), value)
                })
                .collect(),
        ),
        other => other,
    }
}

fn snake_word(word: &str) -> String {
    let mut out = String::with_capacity(word.len() + 4);
    for letter in word.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

fn camel_word(word: &str) -> Cow<'_, str> {
    if !word.contains('_') {
        return Cow::Borrowed(word);
    }
    let mut out = String::with_capacity(word.len());
    let mut is_next_upper = false;
    for letter in word.chars() {
        match letter {
            '_' => is_next_upper = !out.is_empty(),
            letter if is_next_upper => {
                out.push(letter.to_ascii_uppercase());
                is_next_upper = false;
            }
            letter => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// Messages from JavaScript. A part without an origin has the one of its message's role.
pub(crate) fn messages(what: &str, value: Value) -> Result<Vec<stepwell::Message>> {
    let mut value = snake(match value {
        Value::String(text) => return Ok(vec![stepwell::Message::user(text)]),
        Value::Object(message) => Value::Array(vec![Value::Object(message)]),
        other => other,
    });
    for message in value.as_array_mut().into_iter().flatten() {
        let origin = match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => "system",
            Some("assistant") => "model",
            Some("tool") => "tool",
            _ => "user",
        };
        stamp(message, origin);
    }
    read(what, value)
}

fn stamp(holder: &mut Value, origin: &str) {
    for part in holder
        .get_mut("parts")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(members) = part.as_object_mut() {
            members.entry("origin").or_insert_with(|| origin.into());
        }
        stamp(part, "tool");
    }
}

struct Camel<S> {
    inner: S,
    /// The outermost map is a struct in truth.
    is_flat: bool,
}

struct CamelRef<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> Serialize for CamelRef<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Camel {
            inner: serializer,
            is_flat: false,
        })
    }
}

macro_rules! pass_on {
    ($($method:ident($kind:ty)),* $(,)?) => {
        $(fn $method(self, value: $kind) -> Result<Self::Ok, Self::Error> { self.inner.$method(value) })*
    };
}

impl<S: Serializer> Serializer for Camel<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Nested<S::SerializeSeq>;
    type SerializeTuple = Nested<S::SerializeTuple>;
    type SerializeTupleStruct = Nested<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Nested<S::SerializeTupleVariant>;
    type SerializeMap = Nested<S::SerializeMap>;
    type SerializeStruct = Nested<S::SerializeMap>;
    type SerializeStructVariant = Fields<S>;

    pass_on! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
        serialize_u128(u128), serialize_f32(f32), serialize_f64(f64), serialize_char(char), serialize_str(&str),
        serialize_bytes(&[u8]),
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&CamelRef(value))
    }
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }
    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_struct(name)
    }
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &CamelRef(value))
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let mut map = self.inner.serialize_map(Some(1))?;
        map.serialize_entry(&camel_word(variant), &CamelRef(value))?;
        map.end()
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.inner.serialize_seq(len).map(Nested::new)
    }
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.inner.serialize_tuple(len).map(Nested::new)
    }
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.inner.serialize_tuple_struct(name, len).map(Nested::new)
    }
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.inner
            .serialize_tuple_variant(name, index, variant, len)
            .map(Nested::new)
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let is_flat = self.is_flat;
        self.inner
            .serialize_map(len)
            .map(|inner| Nested { inner, is_flat })
    }
    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.inner.serialize_map(Some(len)).map(Nested::new)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<S>, S::Error> {
        Ok(Fields {
            serializer: self.inner,
            variant,
            members: Map::new(),
        })
    }
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

struct Nested<N> {
    inner: N,
    is_flat: bool,
}

impl<N> Nested<N> {
    fn new(inner: N) -> Self {
        Self {
            inner,
            is_flat: false,
        }
    }
}

macro_rules! nested {
    ($($of:ident :: $method:ident),*) => {
        $(impl<N: $of> $of for Nested<N> {
            type Ok = N::Ok;
            type Error = N::Error;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), N::Error> {
                self.inner.$method(&CamelRef(value))
            }
            fn end(self) -> Result<N::Ok, N::Error> {
                self.inner.end()
            }
        })*
    };
}
nested!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl<N: SerializeMap> SerializeMap for Nested<N> {
    type Ok = N::Ok;
    type Error = N::Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), N::Error> {
        if self.is_flat
            && let Ok(Value::String(word)) = serde_json::to_value(key)
        {
            return self.inner.serialize_key(camel_word(&word).as_ref());
        }
        self.inner.serialize_key(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), N::Error> {
        self.inner.serialize_value(&CamelRef(value))
    }
    fn end(self) -> Result<N::Ok, N::Error> {
        self.inner.end()
    }
}

impl<N: SerializeMap> SerializeStruct for Nested<N> {
    type Ok = N::Ok;
    type Error = N::Error;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), N::Error> {
        self.inner.serialize_entry(&camel_word(key), &CamelRef(value))
    }
    fn end(self) -> Result<N::Ok, N::Error> {
        self.inner.end()
    }
}

/// `{ variant: { field: value } }`: gathered first, for a serializer cannot be nested by hand.
struct Fields<S> {
    serializer: S,
    variant: &'static str,
    members: Map<String, Value>,
}

impl<S: Serializer> SerializeStructVariant for Fields<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        let value = serde_json::to_value(CamelRef(value)).map_err(S::Error::custom)?;
        self.members.insert(camel_word(key).into_owned(), value);
        Ok(())
    }
    fn end(self) -> Result<S::Ok, S::Error> {
        let mut map = self.serializer.serialize_map(Some(1))?;
        map.serialize_entry(&camel_word(self.variant), &self.members)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::{from_json, messages, to_json, with_members};
    use serde_json::{Value, json};
    use stepwell::{MediaSource, Message, Origin, Part, Role};

    #[test]
    fn engine_names_turn_camel_and_the_users_own_keys_stay() {
        let call = stepwell::ToolCall::new(
            "c1",
            "look_up",
            json!({ "max_rows": 1, "nested": { "some_key": 2 } }),
        );
        let message = Message::new(
            Role::Tool,
            vec![
                Part::tool_result(&call, vec![Part::text("ok", Origin::Tool)], true, Origin::Tool),
                Part::ToolCall(call),
                Part::media("image/png", MediaSource::FileId("f_1".into())),
            ],
        );
        let text = to_json(&message).expect("plain data");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["parts"][0]["type"], "tool_result");
        assert_eq!(
            (&value["parts"][0]["callId"], &value["parts"][0]["isError"]),
            (&json!("c1"), &json!(true))
        );
        assert_eq!(value["parts"][1]["arguments"]["nested"]["some_key"], 2);
        assert_eq!(value["parts"][2]["source"]["fileId"], "f_1");
        assert_eq!(
            from_json::<Message>("message", &text).expect("reads back"),
            message
        );
    }

    #[test]
    fn a_part_without_an_origin_has_the_one_of_its_role() {
        let given = json!([
            { "role": "assistant", "parts": [{ "type": "text", "text": "hi" }] },
            { "role": "tool", "parts": [{ "type": "tool_result", "callId": "c", "name": "t",
                "parts": [{ "type": "text", "text": "x" }] }] },
        ]);
        let read = messages("messages", given).expect("reads");
        assert_eq!(
            (read[0].parts[0].origin(), read[1].parts[0].origin()),
            (Origin::Model, Origin::Tool)
        );
    }

    #[test]
    fn a_prompt_that_does_not_fit_is_not_quoted() {
        let error =
            messages("messages", json!([{ "role": "user", "parts": "canary" }])).expect_err("no list");
        assert_eq!(error.code(), "invalid_input");
        assert!(!error.to_string().contains("canary"), "{error}");
    }

    #[test]
    fn members_go_in_front() {
        assert_eq!(
            with_members("{\"a\":1}", &[("b", "2".into())]),
            "{\"b\":2,\"a\":1}"
        );
        assert_eq!(with_members("{}", &[("b", "2".into())]), "{\"b\":2}");
    }
}
