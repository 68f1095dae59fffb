//! [`Exchange`]: one recorded call to a vendor, as the corpus keeps it (see the README of the corpus).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// With its query.
    pub path: String,
    /// Those the corpus keeps.
    pub headers: Vec<(String, String)>,
    /// JSON; long base64 is cut by the corpus (see [`super::blob`]).
    pub body: Value,
}

/// A recorded call: `request` is `None` where the source kept the answer alone.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    pub id: String,
    /// The vendor, as the corpus names it.
    pub provider: String,
    /// The wire, as the corpus names it.
    pub api: String,
    pub request: Option<Asked>,
    pub status: u16,
    /// Headers of the answer that the corpus keeps, in lower case.
    pub headers: Vec<(String, String)>,
    /// Body of the answer.
    pub body: String,
}

impl Exchange {
    /// Reads one file of the corpus.
    ///
    /// # Errors
    /// One sentence on what of it is not the corpus's format.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("no JSON: {error}"))?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let headers = |value: &Value| -> Vec<(String, String)> {
            let pairs = value.as_object().into_iter().flatten();
            pairs
                .map(|(name, value)| {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    (name.to_ascii_lowercase(), value)
                })
                .collect()
        };
        let (asked, answer) = (&value["request"], &value["response"]);
        let exchange = Self {
            id: word(&value["id"]),
            provider: word(&value["provider"]),
            api: word(&value["api"]),
            request: (!asked["body"].is_null()).then(|| Asked {
                path: word(&asked["path"]),
                headers: headers(&asked["headers"]),
                body: asked["body"].clone(),
            }),
            status: answer["status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok())
                .ok_or("`response.status` is missing")?,
            headers: headers(&answer["headers"]),
            body: plain(word(&answer["body_text"])),
        };
        if exchange.provider.is_empty() || exchange.api.is_empty() {
            return Err("`provider` or `api` is missing".to_owned());
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self {
            id: if exchange.id.is_empty() {
                name.into_owned()
            } else {
                exchange.id
            },
            ..exchange
        })
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the answer is a stream of events.
    pub fn is_event_stream(&self) -> bool {
        let start = self.body.trim_start_matches(['\u{feff}', '\r', '\n', ' ']);
        ["data:", "event:", ":", "id:", "retry:"]
            .iter()
            .any(|field| start.starts_with(field))
    }

    /// Its events: name and data. The simplest reading there is: an event that no empty line ends never happened.
    pub fn events(&self) -> Vec<(String, String)> {
        let body = self.body.replace("\r\n", "\n").replace('\r', "\n");
        let mut events = Vec::new();
        let mut blocks: Vec<&str> = body.split("\n\n").collect();
        blocks.pop();
        for block in blocks {
            let (mut name, mut data) = (String::new(), Vec::new());
            for line in block.lines() {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "event" => value.clone_into(&mut name),
                    "data" => data.push(value),
                    _ => {}
                }
            }
            if !data.is_empty() {
                events.push((name, data.join("\n")));
            }
        }
        events
    }

    /// The JSON of its events; marks such as `[DONE]` are left out.
    pub fn data(&self) -> Vec<Value> {
        let events = self.events().into_iter();
        events
            .filter_map(|(_, data)| serde_json::from_str(&data).ok())
            .collect()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// One sentence when it is none.
    pub fn json(&self) -> Result<Value, String> {
        serde_json::from_str(&self.body).map_err(|error| format!("the recorded body is no JSON: {error}"))
    }

    /// The model that was asked for: the request says it, else the answer.
    pub fn model(&self) -> String {
        let asked = self
            .request
            .as_ref()
            .and_then(|asked| asked.body["model"].as_str());
        let told = || {
            let values = if self.is_event_stream() {
                self.data()
            } else {
                self.json().into_iter().collect()
            };
            values.iter().find_map(|value| {
                let places = [
                    &value["model"],
                    &value["message"]["model"],
                    &value["response"]["model"],
                ];
                places.iter().find_map(|place| place.as_str().map(str::to_owned))
            })
        };
        asked
            .map(str::to_owned)
            .or_else(told)
            .unwrap_or_else(|| "some-model".to_owned())
    }
}

/// Some recorders kept the body as base64 of its bytes.
fn plain(body: String) -> String {
    let is_base64 = body.len() > 16
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=\n".contains(&byte));
    if !is_base64 {
        return body;
    }
    let bytes = STANDARD.decode(body.replace('\n', "")).ok();
    match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) if text.trim_start().starts_with(['{', '[', 'd', 'e', ':']) => text,
        _ => body,
    }
}

/// All files of exchanges at and below a path, by name.
///
/// # Errors
/// One sentence when the folder cannot be read.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(told)? {
        let path = entry.map_err(told)?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|kind| kind == "json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
