//! [`Instructions`]: what a model is told before a conversation, as plain text or made from a template.

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, value::Serde};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    fmt::{self, Debug},
    io::{self, Write},
    sync::Arc,
};
use stepwell_core::{Error, Result};

/// Most bytes of a template, and of what it makes.
const MOST_BYTES: usize = 256 << 10;
/// What a template may do: about a step of work each, or some bytes that are moved.
const FUEL: u64 = 200_000;
/// Templates within templates: calls of blocks and loops.
const DEPTH: usize = 50;
/// The one template of an environment.
const NAME: &str = "instructions";

/// What a model is told before a conversation.
pub(super) enum Instructions {
    /// As they are: braces in them mean nothing.
    Plain(Arc<str>),
    /// Made anew for each run.
    Template(Template),
}

/// A compiled template. It reads no files and knows no other templates.
#[derive(Clone)]
pub(super) struct Template(Arc<Environment<'static>>);

impl Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive() // neither its text nor its values
    }
}

impl Template {
    /// # Errors
    /// [`Error::InvalidInput`] for one that cannot be read, [`Error::LimitExceeded`] for one over 256 KiB.
    pub(super) fn new(source: String) -> Result<Self> {
        if source.len() > MOST_BYTES {
            return Err(too_large("the template of the instructions"));
        }
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None); // for models, not for browsers
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.remove_global("debug"); // it would show every variable
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| fault(&error))?;
        Ok(Self(Arc::new(environment)))
    }

    /// The text, with these variables in it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a variable that is not given and for what the template cannot do,
    /// [`Error::LimitExceeded`] for a text over 256 KiB and for a template that works too long.
    pub(super) fn render(&self, variables: &Map<String, Value>) -> Result<String> {
        let template = self.0.get_template(NAME).map_err(|error| fault(&error))?;
        let mut text = Capped::default();
        let rendered = template.render_captured_to(Serde(variables), &mut text);
        if text.is_over {
            return Err(too_large("the text that the template of the instructions makes"));
        }
        if let Err(error) = rendered {
            return Err(match error.kind() {
                ErrorKind::UndefinedError => missing(&template.undeclared_variables(true), variables),
                ErrorKind::OutOfFuel => Error::LimitExceeded {
                    what: "the work of the template of the instructions".into(),
                    limit: format!("{FUEL} steps"),
                },
                _ => fault(&error),
            });
        }
        // Templates and values are text, and so is what is made of them.
        Ok(String::from_utf8_lossy(&text.bytes).into_owned())
    }
}

/// Takes so many bytes and no more.
#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
    is_over: bool,
}

impl Write for &mut Capped {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > MOST_BYTES {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_large(what: &str) -> Error {
    Error::LimitExceeded {
        what: what.into(),
        limit: format!("{} KiB", MOST_BYTES >> 10),
    }
}

/// A fault by its kind and place: what the template says and what the values are stays out.
fn fault(error: &minijinja::Error) -> Error {
    let name = match error.kind() {
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction => {
            error.detail().map(|detail| format!(" ({detail})"))
        }
        _ => None,
    };
    Error::invalid(
        "instructions",
        format!(
            "the template has a fault in line {}: {}{}",
            error.line().unwrap_or(1),
            error.kind(),
            name.unwrap_or_default(),
        ),
    )
}

/// The names that a template uses and that are not given.
fn missing<'a>(used: impl IntoIterator<Item = &'a String>, given: &Map<String, Value>) -> Error {
    let mut names: Vec<&str> = used
        .into_iter()
        .filter(|path| {
            let mut steps = path.split('.');
            let mut found = steps.next().and_then(|name| given.get(name));
            for step in steps {
                found = found.and_then(|value| value.get(step));
            }
            found.is_none()
        })
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names.truncate(10);
    let told = if names.is_empty() {
        "the template uses something that its variables do not have".to_owned()
    } else {
        format!("the template uses `{}`, which is not given", names.join("`, `"))
    };
    Error::invalid("instructions", format!("{told}; pass it with `.variables(..)`"))
}

/// Variables as a map.
///
/// # Errors
/// [`Error::InvalidInput`] for what is no map.
pub(super) fn variables_of(given: impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(given) {
        Ok(Value::Object(variables)) => Ok(variables),
        Ok(Value::Null) => Ok(Map::new()),
        _ => Err(Error::invalid(
            "variables",
            "give a map or a struct: its keys are the names in the template",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::Template;
    use serde_json::{Map, Value, json};

    fn given(value: Value) -> Map<String, Value> {
        super::variables_of(value).expect("a map")
    }

    #[test]
    fn a_template_is_filled_with_values_as_they_are() {
        let template = Template::new(
            "Help {{ user.name }}{% if topics %} with {{ topics | join(', ') }}{% endif %}. {{ rules | tojson }}"
                .into(),
        )
        .expect("a template");
        let text = template
            .render(&given(json!({
                "user": { "name": "<Ada & {{ co }}>" }, "topics": ["a", "b"], "rules": { "z": 1, "a": [null] }
            })))
            .expect("all is given");
        assert_eq!(text, "Help <Ada & {{ co }}> with a, b. {\"z\": 1, \"a\": [null]}");
    }

    #[test]
    fn what_is_not_given_is_told_by_name_and_never_quoted() {
        let template = Template::new("{{ company }} {{ user.name }} {{ user.age }}".into()).expect("one");
        let error = template
            .render(&given(json!({ "user": { "name": "canary" } })))
            .expect_err("two are missing");
        assert_eq!(error.code(), "invalid_input");
        let told = error.to_string();
        assert!(
            told.contains("`company`, `user.age`") && !told.contains("canary"),
            "{told}"
        );
    }

    #[test]
    fn a_faulty_template_is_told_by_line_and_not_quoted() {
        for (source, told) in [
            ("a\nb {{ canary", "line 2"),
            ("{% if canary %}", "line 1"),
            ("{{ 'canary' | shout }}", "shout"),
            ("{% include 'canary.txt' %}", "line 1"),
            ("{% macro canary() %}{% endmacro %}", "line 1"),
        ] {
            let made = Template::new(source.into()).and_then(|template| template.render(&Map::new()));
            let error = made.expect_err(source);
            assert_eq!(error.code(), "invalid_input", "{source}");
            assert!(
                error.to_string().contains(told) && !error.to_string().contains("canary"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_template_that_works_or_writes_too_much_is_stopped() {
        let none = Map::new();
        for source in [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% for a in range(10000) %}0123456789012345678901234567890123456789{% endfor %}",
            "{{ 'x' * 1000000 }}",
            "{{ 'x' * 100000 * 100000 * 100000 }}",
        ] {
            let began = std::time::Instant::now();
            let error = Template::new(source.into())
                .and_then(|template| template.render(&none))
                .expect_err(source);
            assert!(
                matches!(error.code(), "limit_exceeded" | "invalid_input"),
                "{source}: {error}"
            );
            assert!(began.elapsed().as_secs() < 5, "{source}");
        }
        assert_eq!(
            Template::new("x".repeat(300 << 10)).expect_err("too long").code(),
            "limit_exceeded"
        );
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000));
        assert_eq!(Template::new(deep).expect_err("too deep").code(), "invalid_input");
    }
}
