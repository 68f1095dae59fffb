//! [`Reading`]: one list of tools as it came, each tool checked; [`Listing`]: what of it was handed out.

use super::{
    Connect, Finding, Pins,
    pins::digest,
    visible::{Found, visible, visible_schema},
};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::Value;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use stepwell_core::{Effect, Error, Result, Risk, Schema, ToolOptions, ToolSpec};

/// What the runner's clock leaves to ours, so that the clearer message is told.
const LEEWAY: Duration = Duration::from_secs(1);

/// A tool as it is handed out.
pub(super) struct Face {
    /// The server's name for it.
    pub(super) remote: String,
    pub(super) digest: String,
    pub(super) spec: ToolSpec,
    pub(super) schema: Schema,
    /// What the data of its results keeps to, where the server says.
    pub(super) output: Option<Schema>,
    pub(super) options: ToolOptions,
    /// The time of one call.
    pub(super) limit: Duration,
}

/// A list of tools as it came.
pub(super) struct Reading {
    faces: Vec<Arc<Face>>,
    /// By the server's names; a name that stands twice has no digest that could be right.
    now: BTreeMap<String, String>,
    findings: Vec<Finding>,
}

impl Reading {
    pub(super) fn new(connect: &Connect, tools: Vec<Tool>) -> Self {
        let mut times: HashMap<String, usize> = HashMap::new();
        let mut names: HashMap<String, usize> = HashMap::new();
        for tool in &tools {
            *times.entry(tool.name.to_string()).or_default() += 1;
            *names.entry(local_name(&connect.prefix, &tool.name)).or_default() += 1;
        }
        let (mut faces, mut now, mut findings) = (Vec::new(), BTreeMap::new(), Vec::new());
        for tool in tools {
            let is_twice = times[tool.name.as_ref()] > 1;
            let digest = if is_twice { String::new() } else { digest(&tool) };
            let is_told = now.insert(tool.name.to_string(), digest.clone()).is_some();
            let local = local_name(&connect.prefix, &tool.name);
            let made = if is_twice {
                Err("the server has two tools of this name".to_owned())
            } else if names[&local] > 1 {
                Err(format!("another of its tools would be named `{local}` here too"))
            } else {
                face(connect, &tool, local, digest)
            };
            let mut find = |is_left_out, message| {
                if !is_told {
                    findings.push(Finding {
                        tool: visible(&tool.name).into_owned(),
                        is_left_out,
                        message,
                    });
                }
            };
            match made {
                Ok((face, is_escaped)) => {
                    if is_escaped {
                        find(
                            false,
                            "it hides characters in what it says; they are written out as `\\u{..}`".into(),
                        );
                    }
                    faces.push(Arc::new(face));
                }
                Err(message) => find(true, message),
            }
        }
        Self { faces, now, findings }
    }

    /// Whether each tool is what the pins say.
    pub(super) fn check(&self, pins: &Pins, server: &str) -> Result<()> {
        for (name, digest) in &self.now {
            let change = match pins.get(name) {
                Some(pinned) if pinned == digest => continue,
                Some(_) => "says something else than when it was pinned",
                None => "was not there when the tools were pinned",
            };
            return Err(Error::PinMismatch {
                server: server.to_owned(),
                tool: visible(name).into_owned(),
                change: change.to_owned(),
            });
        }
        Ok(())
    }
}

/// What was handed out, and what the server says now.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) faces: Vec<Arc<Face>>,
    pub(super) findings: Vec<Finding>,
    now: BTreeMap<String, String>,
}

impl Listing {
    /// Hands out what was read.
    pub(super) fn accept(&mut self, reading: Reading) {
        self.faces = reading.faces;
        self.findings = reading.findings;
        self.now = reading.now;
    }

    /// Knows what the server says now, and hands out nothing new.
    pub(super) fn note(&mut self, reading: &Reading) {
        self.now.clone_from(&reading.now);
    }

    pub(super) fn now(&self, tool: &str) -> Option<&str> {
        self.now.get(tool).map(String::as_str)
    }

    pub(super) fn pins(&self) -> Pins {
        let mut pins = Pins::default();
        for (name, digest) in &self.now {
            if !digest.is_empty() {
                pins.insert(name.clone(), digest.clone());
            }
        }
        pins
    }
}

/// A name that vendors take. The protocol allows points and slashes, and servers do as they like.
fn local_name(prefix: &str, remote: &str) -> String {
    let mut name = String::from(prefix);
    name.extend(remote.chars().map(|letter| {
        if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-') {
            letter
        } else {
            '_'
        }
    }));
    name
}

/// The tool, and whether something in it was written out; or why it is left out.
fn face(connect: &Connect, tool: &Tool, name: String, digest: String) -> Result<(Face, bool), String> {
    let limits = &connect.limits;
    let description = tool.description.as_deref().unwrap_or_default();
    if description.len() > limits.description_bytes {
        return Err(format!(
            "its description has {} bytes; the limit is {}",
            description.len(),
            limits.description_bytes
        ));
    }
    let description = visible(description);
    let mut found = Found {
        escaped: matches!(description, Cow::Owned(_)),
        hides: false,
    };
    let mut schema = Value::Object((*tool.input_schema).clone());
    let bytes = schema.to_string().len();
    if bytes > limits.schema_bytes {
        return Err(format!(
            "its schema has {bytes} bytes; the limit is {}",
            limits.schema_bytes
        ));
    }
    visible_schema(&mut schema, &mut found);
    if found.hides {
        return Err("its schema hides characters in a name or value".into());
    }
    let schema = Schema::from_value(schema).map_err(|error| error.to_string())?;
    let spec = ToolSpec::new(name, description, &schema).map_err(|error| error.to_string())?;
    let output = match &tool.output_schema {
        Some(output) => Some(output_schema(output, limits.schema_bytes)?),
        None => None,
    };
    let mut options = connect
        .options
        .get(tool.name.as_ref())
        .cloned()
        .unwrap_or_else(|| hinted(tool.annotations.as_ref().filter(|_| connect.trusts_hints)));
    let limit = options.timeout.unwrap_or(connect.call_timeout);
    options.timeout = Some(limit.saturating_add(LEEWAY));
    let face = Face {
        remote: tool.name.to_string(),
        digest,
        spec,
        schema,
        output,
        options,
        limit,
    };
    Ok((face, found.escaped))
}

fn output_schema(schema: &JsonObject, most: usize) -> Result<Schema, String> {
    let schema = Value::Object(schema.clone());
    let bytes = schema.to_string().len();
    if bytes > most {
        return Err(format!(
            "the schema of its results has {bytes} bytes; the limit is {most}"
        ));
    }
    Schema::from_value(schema).map_err(|error| format!("the schema of its results: {error}"))
}

/// What a believed server says of a tool. What it does not say counts as the worse; without any word, the tool writes
/// and must not be repeated.
fn hinted(hints: Option<&ToolAnnotations>) -> ToolOptions {
    let hints = hints.cloned().unwrap_or_default();
    let reads = hints.read_only_hint == Some(true);
    let effect = match (reads, hints.idempotent_hint, hints.destructive_hint) {
        (true, ..) => Effect::Pure,
        (false, Some(true), _) => Effect::Idempotent,
        _ => Effect::AtMostOnce,
    };
    let risk = match (reads, hints.open_world_hint) {
        (true, Some(false)) => Risk::Read,
        // The protocol's default is that a tool reaches out into the world.
        (true, _) | (false, Some(true)) => Risk::Egress,
        (false, _) => Risk::Write,
    };
    ToolOptions::default().effect(effect).risk(risk)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Stdio, connect},
        Reading, hinted,
    };
    use rmcp::model::{Tool, ToolAnnotations};
    use serde_json::{Value, json};
    use stepwell_core::{Effect, Risk};

    fn reading(tools: Value) -> Reading {
        let tools: Vec<Tool> = serde_json::from_value(tools).expect("tools");
        Reading::new(&connect("s", Stdio::new("none")).prefix("s_"), tools)
    }

    fn plain(name: &str) -> Value {
        json!({ "name": name, "inputSchema": { "type": "object" } })
    }

    #[test]
    fn tools_that_cannot_be_told_apart_are_left_out_with_the_reason() {
        let read = reading(json!([
            plain("a"),
            plain("twice"),
            plain("twice"),
            plain("x.y"),
            plain("x/y"),
            plain("")
        ]));
        let names: Vec<&str> = read.faces.iter().map(|face| face.spec.name.as_str()).collect();
        assert_eq!(names, ["s_a", "s_"]);
        let told: Vec<(&str, bool)> = read
            .findings
            .iter()
            .map(|f| (f.tool.as_str(), f.is_left_out))
            .collect();
        assert_eq!(told, [("twice", true), ("x.y", true), ("x/y", true)]);
    }

    #[test]
    fn a_schema_that_points_elsewhere_or_is_too_large_leaves_its_tool_out() {
        let read = reading(json!([
            { "name": "remote", "inputSchema": { "type": "object", "properties": { "a": { "$ref": "https://evil.example/schema.json" } } } },
            { "name": "large", "inputSchema": { "type": "object", "description": "x".repeat(70_000) } },
            { "name": "wordy", "description": "x".repeat(20_000), "inputSchema": { "type": "object" } },
            { "name": "fine", "inputSchema": { "type": "object" } },
        ]));
        assert_eq!(read.faces.len(), 1);
        let told: Vec<&str> = read
            .findings
            .iter()
            .map(|finding| finding.tool.as_str())
            .collect();
        assert_eq!(told, ["remote", "large", "wordy"]);
    }

    #[test]
    fn a_hint_counts_only_as_far_as_it_goes() {
        let of = |hints: ToolAnnotations| {
            let options = hinted(Some(&hints));
            (options.effect, options.risk)
        };
        let none = ToolAnnotations::new;
        assert_eq!(
            (hinted(None).effect, hinted(None).risk),
            (Effect::AtMostOnce, Risk::Write)
        );
        assert_eq!(of(none()), (Effect::AtMostOnce, Risk::Write));
        assert_eq!(of(none().read_only(true)), (Effect::Pure, Risk::Egress));
        assert_eq!(
            of(none().read_only(true).open_world(false)),
            (Effect::Pure, Risk::Read)
        );
        assert_eq!(
            of(none().idempotent(true).open_world(false)),
            (Effect::Idempotent, Risk::Write)
        );
        assert_eq!(
            of(none().destructive(false).open_world(true)),
            (Effect::AtMostOnce, Risk::Egress)
        );
    }
}
