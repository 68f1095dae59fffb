//! Two JSON values field by field, and the differences that are allowed, each with its reason.

use serde_json::Value;

/// A way in which what we send may differ from what was recorded and mean the same.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    /// One word for the table.
    pub name: &'static str,
    /// Why it is the same.
    pub reason: &'static str,
}

const REFUSED: Allowed = Allowed {
    name: "refused_before",
    reason: "what the vendor refuses with a 400 is refused by us before anything is sent",
};

/// Which allowed differences an exchange made use of.
#[derive(Debug, Default)]
pub struct Notes {
    pub allowed: Vec<&'static Allowed>,
    /// The answer came byte by byte too.
    pub is_cut_at_every_byte: bool,
}

impl Notes {
    /// The rewriting that this entry stands for changed something.
    pub fn allow(&mut self, allowed: &'static Allowed) {
        if !self.allowed.contains(&allowed) {
            self.allowed.push(allowed);
        }
    }

    /// We refused, as the vendor did, and nothing of the recorded request was sent.
    pub fn refuse(&mut self) {
        self.allow(&REFUSED);
    }

    /// Whether we did.
    pub fn is_refused(&self) -> bool {
        self.allowed.contains(&&REFUSED)
    }

    /// Takes a field away where it holds a value that says what its absence says.
    pub fn drop_if(
        &mut self,
        value: &mut Value,
        key: &str,
        is_idle: impl Fn(&Value) -> bool,
        allowed: &'static Allowed,
    ) {
        let Some(fields) = value.as_object_mut() else {
            return;
        };
        if fields.get(key).is_some_and(is_idle) {
            fields.shift_remove(key);
            self.allow(allowed);
        }
    }

    /// Gives a field its other name.
    pub fn rename(&mut self, value: &mut Value, from: &str, to: &str, allowed: &'static Allowed) {
        let Some(fields) = value.as_object_mut() else {
            return;
        };
        if !fields.contains_key(to)
            && let Some(found) = fields.shift_remove(from)
        {
            fields.insert(to.to_owned(), found);
            self.allow(allowed);
        }
    }

    /// JSON inside a string is compared as JSON.
    pub fn parse_inside(&mut self, value: &mut Value, allowed: &'static Allowed) {
        if let Value::String(text) = value {
            let parsed = if text.trim().is_empty() {
                Ok(serde_json::json!({}))
            } else {
                serde_json::from_str(text)
            };
            if let Ok(parsed) = parsed {
                *value = parsed;
                self.allow(allowed);
            }
        }
    }
}

const REQUIRED: Allowed = Allowed {
    name: "required_order",
    reason: "`required` of a schema is a set; ours follows the order of its properties",
};

/// Puts the names in `required` of the schemas that were sent into the recorded order, where they are the same names.
pub fn align_required(recorded: &Value, sent: &mut Value, notes: &mut Notes) {
    match (recorded, sent) {
        (Value::Object(recorded), Value::Object(sent)) => {
            for (key, value) in recorded {
                let Some(other) = sent.get_mut(key) else { continue };
                let names = |list: &Value| -> Option<Vec<String>> {
                    let mut names: Vec<String> = list
                        .as_array()?
                        .iter()
                        .map(|name| name.as_str().map(str::to_owned))
                        .collect::<Option<_>>()?;
                    names.sort();
                    Some(names)
                };
                if key == "required"
                    && value != other
                    && names(value).is_some()
                    && names(value) == names(other)
                {
                    other.clone_from(value);
                    notes.allow(&REQUIRED);
                }
                align_required(value, other, notes);
            }
        }
        (Value::Array(recorded), Value::Array(sent)) => {
            for (value, other) in recorded.iter().zip(sent) {
                align_required(value, other, notes);
            }
        }
        _ => {}
    }
}

/// Every place where the two differ, as `path: recorded …, sent …`. The order of an object's keys does not count,
/// and 1 is 1.0.
pub fn between(recorded: &Value, sent: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", recorded, sent, &mut found);
    found
}

fn walk(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                let path = format!("{path}.{key}");
                match b.get(key) {
                    Some(other) => walk(&path, value, other, found),
                    None => found.push(format!("{path}: {} is missing", short(value))),
                }
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                found.push(format!("{path}.{key}: {} is too much", short(value)));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for (at, (value, other)) in a.iter().zip(b).enumerate() {
                walk(&format!("{path}[{at}]"), value, other, found);
            }
            if a.len() != b.len() {
                found.push(format!("{path}: {} items expected, {} there", a.len(), b.len()));
            }
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        _ if left == right => {}
        _ => found.push(format!(
            "{path}: {} expected, {} there",
            short(left),
            short(right)
        )),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 120 {
        return text;
    }
    format!("{}…", text.chars().take(120).collect::<String>())
}
