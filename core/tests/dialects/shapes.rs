//! What becomes of single shapes, dialect by dialect; and of hostile ones.

use crate::{ALL, judge};
use serde_json::{Map, Value, json};
use std::time::Instant;
use stepwell_core::{CompiledSchema, Dialect, Schema, SchemaChange};

fn compiled(dialect: Dialect, given: &Value) -> CompiledSchema {
    let compiled = dialect.compile(given).expect("compiles");
    let faults = judge::faults(dialect, &compiled.value);
    assert!(faults.is_empty(), "{dialect:?}: {faults:?} in {}", compiled.value);
    compiled
}

fn told(compiled: &CompiledSchema) -> Vec<(&str, SchemaChange)> {
    compiled
        .losses
        .iter()
        .map(|loss| (loss.pointer.as_str(), loss.change))
        .collect()
}

#[test]
fn openai_gets_every_property_required_and_an_optional_one_null_where_it_is_absent() {
    let given = json!({ "type": "object", "required": ["id"], "properties": {
        "id": { "type": "integer", "minimum": 1 },
        "note": { "type": "string", "description": "Free words.", "maxLength": 80 },
        "size": { "enum": ["s", "m"], "description": "One of two." },
        "kin": { "$ref": "#/$defs/kin" },
        "maybe": { "type": ["integer", "null"] },
        "row": { "type": "array", "items": { "type": "object", "properties": { "x": { "type": "number" } } } }
    }, "$defs": { "kin": { "type": "object", "properties": { "of": { "$ref": "#/$defs/kin" } }, "additionalProperties": false } } });
    let compiled = compiled(Dialect::OpenAiStrict, &given);
    assert_eq!(
        compiled.value,
        json!({ "type": "object", "required": ["id", "note", "size", "kin", "maybe", "row"], "properties": {
            "id": { "type": "integer", "minimum": 1 },
            "note": { "type": ["string", "null"], "description": "Free words." },
            "size": { "description": "One of two.", "anyOf": [{ "enum": ["s", "m"] }, { "type": "null" }] },
            "kin": { "anyOf": [{ "$ref": "#/$defs/kin" }, { "type": "null" }] },
            "maybe": { "type": ["integer", "null"] },
            "row": { "type": ["array", "null"], "items": {
                "type": "object", "properties": { "x": { "type": ["number", "null"] } }, "required": ["x"], "additionalProperties": false } }
        }, "additionalProperties": false,
        "$defs": { "kin": { "type": "object", "properties": { "of": { "anyOf": [{ "$ref": "#/$defs/kin" }, { "type": "null" }] } },
            "required": ["of"], "additionalProperties": false } } })
    );
    assert_eq!(compiled.loose_keywords(), ["maxLength"]);
    assert!(told(&compiled).contains(&("/properties/note/maxLength", SchemaChange::Dropped)));
    assert!(told(&compiled).contains(&("/properties/note/required", SchemaChange::Rewritten)));
    assert!(told(&compiled).contains(&("/additionalProperties", SchemaChange::Narrowed)));
    // Nulls stand for absent things, all the way down.
    let schema = Schema::from_value(given).expect("a schema");
    let answer = json!({ "id": 1, "note": null, "size": null, "kin": { "of": { "of": null } }, "maybe": null, "row": [{ "x": null }] });
    assert_eq!(
        schema.read(answer).expect("fits"),
        json!({ "id": 1, "kin": { "of": {} }, "maybe": null, "row": [{}] })
    );
}

#[test]
fn anthropic_loses_its_bounds_and_keeps_optional_properties_optional() {
    let given = json!({ "type": "object", "properties": {
        "n": { "type": "integer", "minimum": 1, "format": "int64" },
        "list": { "type": "array", "minItems": 3, "items": { "type": "string", "pattern": "^(?=a)" } },
        "plain": { "type": "string", "pattern": "^a+$", "format": "uri" }
    }, "required": ["n"] });
    let compiled = compiled(Dialect::AnthropicStrict, &given);
    assert_eq!(
        compiled.value,
        json!({ "type": "object", "properties": {
            "n": { "type": "integer" },
            "list": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            "plain": { "type": "string", "pattern": "^a+$", "format": "uri" }
        }, "required": ["n"], "additionalProperties": false })
    );
    assert_eq!(compiled.loose_keywords(), ["minItems", "minimum", "pattern"]);
    assert_eq!(
        (compiled.size.optional_properties, compiled.size.union_properties),
        (2, 0)
    );
}

#[test]
fn gemini_gets_openapi_without_references_or_json_schema_with_bare_ones() {
    let given = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["tree", "kind"], "properties": {
        "tree": { "$ref": "#/$defs/tree" },
        "kind": { "const": "a" },
        "code": { "enum": [1, 2] },
        "maybe": { "type": ["string", "null"], "minLength": 1 },
        "either": { "type": ["string", "integer"] }
    }, "additionalProperties": false, "$defs": { "tree": { "type": "object", "required": ["name", "kids"], "properties": {
        "name": { "type": "string" }, "kids": { "type": "array", "items": { "$ref": "#/$defs/tree" } } } } } });
    let open = compiled(Dialect::GeminiOpenApi, &given);
    let leaf = json!({ "type": "OBJECT" });
    let once = json!({ "type": "OBJECT", "required": ["name", "kids"], "properties": { "name": { "type": "STRING" }, "kids": { "type": "ARRAY", "items": leaf } } });
    let twice = json!({ "type": "OBJECT", "required": ["name", "kids"], "properties": { "name": { "type": "STRING" }, "kids": { "type": "ARRAY", "items": once } } });
    assert_eq!(
        open.value,
        json!({ "type": "OBJECT", "required": ["tree", "kind"], "properties": {
            "tree": twice,
            "kind": { "enum": ["a"], "type": "STRING" },
            "code": { "type": "INTEGER" },
            "maybe": { "type": "STRING", "nullable": true, "minLength": 1 },
            "either": { "anyOf": [{ "type": "INTEGER" }, { "type": "STRING" }] }
        } })
    );
    assert_eq!(open.loose_keywords(), ["$ref", "additionalProperties", "enum"]);
    let json = compiled(Dialect::GeminiJson, &given);
    assert_eq!(
        json.value["properties"]["tree"],
        json!({ "$ref": "#/$defs/tree" })
    );
    assert_eq!(json.value["$schema"], given["$schema"]);
    assert_eq!(json.value["properties"]["kind"], json!({ "enum": ["a"] }));
    assert_eq!(
        json.value["properties"]["maybe"],
        json!({ "type": ["string", "null"] })
    );
    assert_eq!(
        json.value["$defs"]["tree"]["required"],
        json!(["name"]),
        "what contains itself may not be required"
    );
    assert_eq!(json.loose_keywords(), ["minLength", "required"]);
}

#[test]
fn what_stands_beside_a_reference_is_joined_and_all_of_is_one_object() {
    let given = json!({ "type": "object", "properties": {
        "a": { "$ref": "#/definitions/word", "description": "A word.", "minLength": 2 },
        "b": { "allOf": [{ "$ref": "#/definitions/base" }, { "properties": { "y": { "type": "integer" } }, "required": ["y"] }] }
    }, "required": ["a", "b"], "definitions": {
        "word": { "type": "string", "pattern": "^a" },
        "base": { "type": "object", "properties": { "x": { "type": "number" }, "y": { "minimum": 3 } }, "required": ["x"] }
    } });
    let compiled = compiled(Dialect::OpenAiStrict, &given);
    assert_eq!(
        compiled.value["properties"],
        json!({
            "a": { "description": "A word.", "type": "string", "pattern": "^a" },
            "b": { "type": "object", "properties": { "x": { "type": "number" }, "y": { "minimum": 3, "type": "integer" } },
                "required": ["x", "y"], "additionalProperties": false }
        })
    );
    assert!(
        compiled.value.get("$defs").is_none(),
        "nothing refers to them any more"
    );
    assert_eq!(compiled.loose_keywords(), ["minLength"]);
}

#[test]
fn branches_that_exclude_one_another_by_a_tag_lose_nothing_and_others_are_told() {
    let tagged = json!({ "type": "object", "required": ["act"], "properties": { "act": { "oneOf": [
        { "type": "object", "properties": { "kind": { "const": "go" } }, "required": ["kind"] },
        { "type": "object", "properties": { "kind": { "enum": ["stop", "wait"] } }, "required": ["kind"] }
    ] } } });
    assert!(
        compiled(Dialect::OpenAiStrict, &tagged)
            .loose_keywords()
            .is_empty()
    );
    let vague = json!({ "type": "object", "required": ["act"], "properties": { "act": { "oneOf": [
        { "type": "object", "properties": { "x": { "type": "string" } } },
        { "type": "object", "properties": { "y": { "type": "string" } } }
    ] } } });
    assert_eq!(
        compiled(Dialect::OpenAiStrict, &vague).loose_keywords(),
        ["oneOf"]
    );
}

#[test]
fn a_map_of_free_keys_is_told_to_be_hollow_where_objects_are_closed() {
    let map = json!({ "type": "object", "properties": { "counts": { "type": "object", "additionalProperties": { "type": "integer" } } }, "required": ["counts"] });
    assert!(compiled(Dialect::OpenAiStrict, &map).is_hollow);
    assert!(compiled(Dialect::AnthropicStrict, &map).is_hollow);
    assert!(!compiled(Dialect::GeminiJson, &map).is_hollow);
    assert_eq!(
        compiled(Dialect::GeminiJson, &map).value["properties"]["counts"]["additionalProperties"],
        json!({ "type": "integer" })
    );
    // A tool without arguments is empty on purpose.
    let none = json!({ "type": "object", "properties": {} });
    assert!(!compiled(Dialect::OpenAiStrictArguments, &none).is_hollow);
}

#[test]
fn alternatives_at_the_top_of_arguments_are_run_together_and_refused_at_the_top_of_an_answer() {
    let given = json!({ "anyOf": [
        { "type": "object", "properties": { "city": { "type": "string" }, "days": { "type": "integer" } }, "required": ["city", "days"] },
        { "type": "object", "properties": { "city": { "type": "string" }, "zip": { "type": "string" } }, "required": ["city", "zip"] }
    ] });
    let strict = compiled(Dialect::OpenAiStrictArguments, &given);
    assert_eq!(
        strict.value,
        json!({ "type": "object", "properties": { "city": { "type": "string" }, "days": { "type": ["integer", "null"] }, "zip": { "type": ["string", "null"] } },
            "required": ["city", "days", "zip"], "additionalProperties": false })
    );
    assert_eq!(strict.loose_keywords(), ["anyOf"]);
    let loose = compiled(Dialect::AnthropicStrictArguments, &given);
    assert_eq!(loose.value["required"], json!(["city"]));
    assert_eq!(
        Dialect::OpenAiStrict
            .compile(&given)
            .expect_err("a union at the top")
            .code(),
        "unsupported"
    );
}

#[test]
fn recursion_is_kept_refused_or_cut_as_the_vendor_wants() {
    for given in [
        json!({ "type": "object", "properties": { "next": { "$ref": "#" } } }),
        json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/a" } }, "$defs": {
            "a": { "type": "object", "properties": { "b": { "$ref": "#/$defs/b" } } },
            "b": { "type": "object", "properties": { "a": { "$ref": "#/$defs/a", "description": "back", "minProperties": 1 } } } } }),
    ] {
        let _ = compiled(Dialect::OpenAiStrict, &given);
        let _ = compiled(Dialect::GeminiJson, &given);
        let cut = compiled(Dialect::GeminiOpenApi, &given);
        assert!(cut.loose_keywords().contains(&"$ref"));
        assert_eq!(
            Dialect::AnthropicStrict
                .compile(&given)
                .expect_err("recursion")
                .code(),
            "unsupported"
        );
    }
}

/// `n` definitions, each with `width` references to the next: `width^n` when written out.
fn bomb(n: usize, width: usize, beside: bool) -> Value {
    let mut definitions = Map::new();
    for place in 0..n {
        let mut properties = Map::new();
        for column in 0..width {
            let mut to = json!({ "$ref": format!("#/$defs/d{}", place + 1) });
            if beside {
                to["description"] = json!("d".repeat(200));
                to["maxLength"] = json!(column);
            }
            properties.insert(format!("p{column}"), to);
        }
        definitions.insert(
            format!("d{place}"),
            json!({ "type": "object", "properties": properties }),
        );
    }
    definitions.insert(format!("d{n}"), json!({ "type": "string" }));
    json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/d0" } }, "$defs": definitions })
}

#[test]
fn a_schema_that_explodes_when_written_out_is_cut_and_told() {
    for (n, width, beside) in [(30, 2, false), (30, 2, true), (12, 10, true), (60, 60, true)] {
        let given = bomb(n, width, beside);
        for dialect in ALL {
            let began = Instant::now();
            let size = match dialect.compile(&given) {
                Ok(compiled) => {
                    assert!(judge::faults(dialect, &compiled.value).is_empty(), "{dialect:?}");
                    assert!(compiled.losses.len() < 1_100);
                    compiled.value.to_string().len()
                }
                Err(error) => {
                    assert_eq!(error.code(), "limit_exceeded", "{dialect:?}");
                    0
                }
            };
            assert!(size < 3 << 20, "{dialect:?}: {size} bytes of {n} x {width}");
            assert!(
                began.elapsed().as_secs() < 20,
                "{dialect:?}: {:?}",
                began.elapsed()
            );
        }
    }
    // Alternatives beside alternatives multiply too.
    let group = json!([{ "minLength": 1 }, { "pattern": "a" }, { "pattern": "b" }, { "maxLength": 9 }]);
    let all: Vec<Value> = (0..24).map(|_| json!({ "anyOf": group })).collect();
    let given = json!({ "type": "object", "properties": { "a": { "type": "string", "allOf": all } } });
    let began = Instant::now();
    let compiled = Dialect::OpenAiStrict.compile(&given).expect("compiles");
    assert!(compiled.value.to_string().len() < 3 << 20 && began.elapsed().as_secs() < 20);
    assert!(compiled.loose_keywords().contains(&"anyOf"));
}

#[test]
fn hostile_keys_keep_their_names_and_reach_the_report_escaped() {
    let names = [
        "",
        "a/b",
        "c~d",
        "$ref",
        "properties",
        "required",
        "__proto__",
        "\u{0}\u{202e}",
        "é",
        "anyOf",
        "%25",
        "type",
    ];
    let properties: Map<String, Value> = names
        .iter()
        .map(|name| {
            (
                (*name).to_owned(),
                json!({ "type": "integer", "minProperties": 1 }),
            )
        })
        .collect();
    let given = json!({ "type": "object", "properties": properties, "required": names });
    for dialect in ALL {
        let compiled = compiled(dialect, &given);
        let kept: Vec<&String> = compiled.value["properties"]
            .as_object()
            .expect("a map")
            .keys()
            .collect();
        assert_eq!(kept, names, "{dialect:?}");
        for loss in &compiled.losses {
            let (parent, _) = loss.pointer.rsplit_once('/').expect("a pointer");
            assert!(given.pointer(parent).is_some(), "{dialect:?}: {}", loss.pointer);
        }
    }
    let references = json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/a~1b" }, "y": { "$ref": "#/$defs/c~0d%20e" }, "z": { "$ref": "#/$defs/x/properties/a~1b" } }, "$defs": {
        "a/b": { "type": "string" }, "c~d e": { "type": "integer" }, "x": { "properties": { "a/b": { "type": "boolean" } } } } });
    let compiled = compiled(Dialect::OpenAiStrict, &references);
    assert_eq!(
        compiled.value["$defs"],
        json!({ "a/b": { "type": "string" }, "c~d e": { "type": "integer" }, "a/b_2": { "type": "boolean" } })
    );
}

#[test]
fn the_limits_of_openai_are_told_before_anything_is_sent() {
    let wide: Map<String, Value> = (0..5_001)
        .map(|n| (format!("p{n}"), json!({ "type": "string" })))
        .collect();
    let mut deep = json!({ "type": "string" });
    for _ in 0..11 {
        deep = json!({ "type": "object", "properties": { "x": deep } });
    }
    let listed: Vec<String> = (0..1_001).map(|n| format!("v{n}")).collect();
    let long: Vec<String> = (0..300).map(|n| format!("{n:060}")).collect();
    for given in [
        json!({ "type": "object", "properties": wide }),
        deep,
        json!({ "type": "object", "properties": { "x": { "enum": listed } } }),
        json!({ "type": "object", "properties": { "x": { "enum": long } } }),
    ] {
        let error = Dialect::OpenAiStrict.compile(&given).expect_err("over a limit");
        assert_eq!(error.code(), "limit_exceeded", "{error}");
        assert!(Dialect::CompatibleStrict.compile(&given).is_ok());
    }
}

#[test]
fn a_schema_that_no_value_fits_or_that_is_none_is_refused() {
    for bad in [
        json!(3),
        json!("x"),
        json!({ "allOf": [{ "type": "string" }, { "type": "object" }] }),
        json!(false),
    ] {
        assert!(Dialect::OpenAiStrict.compile(&bad).is_err(), "{bad}");
    }
}
