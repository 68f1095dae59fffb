//! [`plan`]: which way a vendor is brought to answer in a shape, and the request that goes out for it. Pure.

use super::wrap::{FIELD, is_object, wrap};
use serde_json::{Value, json};
use std::borrow::Cow;
use stepwell_core::{
    ChatRequest, Dialect, Message, Origin, Part, ResponseFormat, Result, Role, Schema, StructuredStrategy,
    ToolChoice, ToolSpec,
};

/// What a vendor can for one request.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a fact about a vendor, and none excludes another
pub(crate) struct Means {
    /// The dialect of the schemas it keeps to by itself; `None` where it keeps to none.
    pub(crate) native: Option<Dialect>,
    /// A schema that the dialect cannot say is sent loosely all the same.
    pub(crate) is_lenient: bool,
    /// It keeps to a schema also where it may call tools.
    pub(crate) beside_tools: bool,
    /// The top of such a schema has to be an object.
    pub(crate) object_root: bool,
    /// It can promise any JSON object.
    pub(crate) json_mode: bool,
    /// It calls tools.
    pub(crate) tools: bool,
    /// A call can be forced.
    pub(crate) forces_calls: bool,
    /// It keeps to the schema of a tool's arguments where asked to.
    pub(crate) strict_tools: bool,
}

/// A request in the shape that this vendor takes, and how its answer is read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) strategy: StructuredStrategy,
    /// What is sent (first).
    pub(super) request: ChatRequest,
    /// What was asked for: the answer is checked against it.
    pub(super) format: ResponseFormat,
    /// The name of the tool whose call is the answer.
    pub(super) tool: Option<String>,
    /// The answer stands in an object of its own.
    pub(super) is_wrapped: bool,
    /// How the answer of the first request is asked for again, in the shape; the turns of the first are to be added.
    pub(super) second: Option<Box<Plan>>,
}

/// What the model reads where the answer is a call.
const TOOL_WORDS: &str =
    "Gives the final answer. Call it once, at the end, with the whole answer as its arguments.";
/// What it is told where the call cannot be forced.
const CALL_WORDS: &str = "Give your final answer only by calling the tool";
/// What it is told where it has to write the JSON by itself.
const JSON_WORDS: &str = "Write your final answer as JSON alone, with no words and no code fence around it.";
/// The second request of two.
const AGAIN_WORDS: &str =
    "Write this answer as JSON of the shape that is asked for. Add nothing and leave nothing out.";

/// # Errors
/// [`stepwell_core::Error::InvalidInput`] for a schema that is none.
pub(super) fn plan(means: Means, request: ChatRequest) -> Result<Plan> {
    let strategy = request.structured.unwrap_or(choose(means, &request)?);
    match strategy {
        StructuredStrategy::FinalTool => final_tool(means, request),
        StructuredStrategy::Prompted => Ok(prompted(means, request)),
        StructuredStrategy::TwoPhase => two_phase(means, request),
        _ => native(means, request),
    }
}

fn may_call(request: &ChatRequest) -> bool {
    !request.tools.is_empty() && request.tool_choice != ToolChoice::None
}

/// The surest way this vendor has for this request.
fn choose(means: Means, request: &ChatRequest) -> Result<StructuredStrategy> {
    let can = can_natively(means, &request.response_format)?;
    let calls = may_call(request);
    Ok(if can && (!calls || means.beside_tools) {
        StructuredStrategy::Native
    } else if means.tools && means.forces_calls && !is_any_json(request) {
        StructuredStrategy::FinalTool
    } else if can {
        StructuredStrategy::TwoPhase
    } else if means.tools && means.strict_tools && !is_any_json(request) {
        StructuredStrategy::FinalTool
    } else {
        StructuredStrategy::Prompted
    })
}

fn is_any_json(request: &ChatRequest) -> bool {
    matches!(request.response_format, ResponseFormat::Json)
}

/// Whether the vendor keeps to the shape by itself.
fn can_natively(means: Means, format: &ResponseFormat) -> Result<bool> {
    let ResponseFormat::Schema { schema, .. } = format else {
        return Ok(means.json_mode);
    };
    let Some(dialect) = means.native else {
        return Ok(false);
    };
    if means.is_lenient {
        return Ok(true);
    }
    let given = written(schema, means.object_root);
    Ok(crate::schema::strictly(dialect, &given)?.is_some())
}

/// The schema, in an object where one has to be.
fn written(schema: &Schema, needs_object: bool) -> Cow<'_, Value> {
    let given = schema.as_value();
    if needs_object && !is_object(given) {
        Cow::Owned(wrap(given))
    } else {
        Cow::Borrowed(given)
    }
}

fn native(means: Means, mut request: ChatRequest) -> Result<Plan> {
    let format = request.response_format.clone();
    let mut is_wrapped = false;
    if let ResponseFormat::Schema { name, schema } = &format
        && let Cow::Owned(wrapped) = written(schema, means.object_root)
    {
        is_wrapped = true;
        request = request.schema(name.clone(), Schema::from_value(wrapped)?);
    }
    Ok(Plan {
        strategy: StructuredStrategy::Native,
        request,
        format,
        tool: None,
        is_wrapped,
        second: None,
    })
}

fn final_tool(means: Means, mut request: ChatRequest) -> Result<Plan> {
    let format = std::mem::take(&mut request.response_format);
    let (own, schema) = match &format {
        ResponseFormat::Schema { name, schema } => (name.as_str(), schema.clone()),
        _ => ("answer", Schema::from_value(json!({ "type": "object" }))?),
    };
    let name = free_name(own, &request.tools);
    let parameters = written(&schema, true);
    let is_wrapped = matches!(parameters, Cow::Owned(_));
    let mut tool = ToolSpec::new(
        name.clone(),
        TOOL_WORDS,
        &Schema::from_value(parameters.into_owned())?,
    )?;
    tool.strict = means.strict_tools.then_some(true);
    let calls = may_call(&request);
    if !calls {
        request.tools.clear(); // none of them may be called
    }
    request.tools.push(tool);
    match (&request.tool_choice, means.forces_calls) {
        (ToolChoice::Named(_), _) if calls => {}
        (ToolChoice::Any, _) => {}
        (_, true) => request.tool_choice = ToolChoice::Any,
        (_, false) => {
            request.tool_choice = ToolChoice::Auto;
            tell(&mut request, format!("{CALL_WORDS} `{name}`."));
        }
    }
    Ok(Plan {
        strategy: StructuredStrategy::FinalTool,
        request,
        format,
        tool: Some(name),
        is_wrapped,
        second: None,
    })
}

fn prompted(means: Means, mut request: ChatRequest) -> Plan {
    let format = std::mem::take(&mut request.response_format);
    let mut words = JSON_WORDS.to_owned();
    let mut is_wrapped = false;
    if let ResponseFormat::Schema { schema, .. } = &format {
        // A bare number or word is hard to tell from prose, and a vendor's JSON mode wants an object.
        let schema = written(schema, true);
        is_wrapped = matches!(schema, Cow::Owned(_));
        words.push_str(" It has to keep to this JSON Schema: ");
        words.push_str(&schema.to_string());
    } else {
        words.push_str(" It has to be one object.");
    }
    if means.json_mode && !may_call(&request) {
        request.response_format = ResponseFormat::Json;
    }
    tell(&mut request, words);
    Plan {
        strategy: StructuredStrategy::Prompted,
        request,
        format,
        tool: None,
        is_wrapped,
        second: None,
    }
}

fn two_phase(means: Means, request: ChatRequest) -> Result<Plan> {
    let mut again = request.clone();
    again.tools.clear();
    again.tool_choice = ToolChoice::Auto;
    again.parallel_tool_calls = None;
    again.structured = None;
    let second = if can_natively(means, &again.response_format)? {
        native(means, again)?
    } else {
        prompted(means, again)
    };
    let mut first = request;
    let format = std::mem::take(&mut first.response_format);
    Ok(Plan {
        strategy: StructuredStrategy::TwoPhase,
        request: first,
        format,
        tool: None,
        is_wrapped: false,
        second: Some(Box::new(second)),
    })
}

impl Plan {
    /// The second request, behind the answer to the first.
    pub(super) fn behind(mut self, answer: Message) -> Self {
        self.request.messages.push(answer);
        self.request.messages.push(Message::user(AGAIN_WORDS));
        self
    }
}

/// Adds to the instructions.
fn tell(request: &mut ChatRequest, words: String) {
    let at = request
        .messages
        .iter()
        .position(|message| !matches!(message.role, Role::System | Role::Developer))
        .unwrap_or(request.messages.len());
    let message = Message::new(Role::System, vec![Part::text(words, Origin::System)]);
    request.messages.insert(at, message);
}

/// A tool's name that no other tool has.
fn free_name(own: &str, tools: &[ToolSpec]) -> String {
    let own: String = own
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                c
            } else {
                '_'
            }
        })
        .take(56)
        .collect();
    let own = if own.is_empty() { FIELD.to_owned() } else { own };
    let mut name = own.clone();
    let mut count = 1;
    while tools.iter().any(|tool| tool.name == name) {
        count += 1;
        name = format!("{own}_{count}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::{Means, plan};
    use serde_json::{Value, json};
    use stepwell_core::{
        ChatRequest, Dialect, Message, ResponseFormat, Role, Schema, StructuredStrategy, ToolChoice, ToolSpec,
    };

    const ABLE: Means = Means {
        native: Some(Dialect::OpenAiStrict),
        is_lenient: true,
        beside_tools: true,
        object_root: true,
        json_mode: true,
        tools: true,
        forces_calls: true,
        strict_tools: true,
    };

    fn request(schema: Value, has_tool: bool) -> ChatRequest {
        let given = Schema::from_value(schema).expect("a schema");
        let mut request =
            ChatRequest::new([Message::system("Be brief."), Message::user("Hi")]).schema("my shape", given);
        if has_tool {
            let none = Schema::from_value(json!({ "type": "object" })).expect("a schema");
            request = request.tool(ToolSpec::new("my_shape", "", &none).expect("a tool"));
        }
        request
    }

    #[test]
    fn the_surest_way_is_taken_that_the_vendor_has() {
        use StructuredStrategy::{FinalTool, Native, Prompted, TwoPhase};
        let object = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        let map = json!({ "type": "object", "additionalProperties": { "type": "string" } });
        let alone = Means {
            beside_tools: false,
            ..ABLE
        };
        let unforced = Means {
            forces_calls: false,
            ..alone
        };
        let weak = Means { native: None, ..ABLE };
        let exact = Means {
            native: Some(Dialect::AnthropicStrict),
            is_lenient: false,
            ..ABLE
        };
        let bare = Means {
            native: None,
            tools: false,
            json_mode: false,
            ..ABLE
        };
        for (means, schema, has_tool, strategy) in [
            (ABLE, &object, true, Native),
            (alone, &object, false, Native),
            (alone, &object, true, FinalTool),
            (unforced, &object, true, TwoPhase),
            (weak, &object, false, FinalTool),
            (exact, &object, true, Native),
            (exact, &map, true, FinalTool),
            (bare, &object, false, Prompted),
        ] {
            let planned = plan(means, request(schema.clone(), has_tool)).expect("plans");
            assert_eq!(planned.strategy, strategy, "{means:?} {schema} {has_tool}");
        }
        let mut asked = request(object, true);
        asked.structured = Some(Prompted);
        assert_eq!(plan(ABLE, asked).expect("plans").strategy, Prompted);
    }

    #[test]
    fn the_final_tool_has_a_free_name_and_an_object_and_is_forced_where_it_can_be() {
        let list = json!({ "type": "array", "items": { "type": "string" } });
        let alone = Means {
            beside_tools: false,
            ..ABLE
        };
        let planned = plan(alone, request(list.clone(), true)).expect("plans");
        assert_eq!(planned.tool.as_deref(), Some("my_shape_2"));
        assert_eq!(planned.request.tools[1].parameters["properties"]["answer"], list);
        assert_eq!(planned.request.tool_choice, ToolChoice::Any);
        assert!(planned.is_wrapped && matches!(planned.request.response_format, ResponseFormat::Text));
        let mut unforced = request(list, false);
        unforced.structured = Some(StructuredStrategy::FinalTool);
        let means = Means {
            forces_calls: false,
            ..ABLE
        };
        let planned = plan(means, unforced).expect("plans");
        assert_eq!(planned.request.tool_choice, ToolChoice::Auto);
        assert!(
            planned.request.messages[1]
                .text()
                .ends_with("the tool `my_shape`.")
        );
    }

    #[test]
    fn instructions_come_behind_the_hosts_own_and_tell_the_schema() {
        let bare = Means {
            native: None,
            tools: false,
            ..ABLE
        };
        let planned = plan(bare, request(json!({ "type": "integer" }), false)).expect("plans");
        let roles: Vec<Role> = planned
            .request
            .messages
            .iter()
            .map(|message| message.role)
            .collect();
        assert_eq!(roles, [Role::System, Role::System, Role::User]);
        assert!(
            planned.request.messages[1]
                .text()
                .contains(r#""answer":{"type":"integer"}"#)
        );
        assert!(matches!(planned.request.response_format, ResponseFormat::Json));
    }
}
