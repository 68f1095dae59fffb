//! Schemas that programs really send: those of the recorded requests.

use crate::{ALL, fixtures, judge};
use serde_json::Value;
use stepwell_core::Dialect;

struct Sent {
    id: String,
    provider: String,
    is_tool: bool,
    is_strict: bool,
    is_fine: bool,
    schema: Value,
}

fn sent() -> Vec<Sent> {
    let mut found = Vec::new();
    let Some(wire) = fixtures("wire") else {
        println!("skipped: 1 (no recordings)");
        return found;
    };
    let mut files: Vec<_> = std::fs::read_dir(wire)
        .expect("a folder")
        .flatten()
        .filter_map(|vendor| std::fs::read_dir(vendor.path()).ok())
        .flatten()
        .flatten()
        .map(|file| file.path())
        .filter(|file| file.extension().is_some_and(|kind| kind == "json"))
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(file).expect("readable");
        let exchange: Value = serde_json::from_str(&text).expect("JSON");
        let body = &exchange["request"]["body"];
        let mut add = |is_tool: bool, is_strict: bool, schema: &Value| {
            if schema.is_object() {
                found.push(Sent {
                    id: exchange["id"].as_str().unwrap_or_default().to_owned(),
                    provider: exchange["provider"].as_str().unwrap_or_default().to_owned(),
                    is_tool,
                    is_strict,
                    is_fine: exchange["response"]["status"] == 200,
                    schema: schema.clone(),
                });
            }
        };
        for tool in body["tools"].as_array().into_iter().flatten() {
            for face in [tool, &tool["function"]] {
                add(true, face["strict"] == true, &face["parameters"]);
                add(true, face["strict"] == true, &face["input_schema"]);
            }
            for face in tool["functionDeclarations"].as_array().into_iter().flatten() {
                add(true, false, &face["parametersJsonSchema"]);
            }
        }
        for format in [&body["response_format"]["json_schema"], &body["text"]["format"]] {
            add(false, format["strict"] == true, &format["schema"]);
        }
        add(false, true, &body["output_config"]["format"]["schema"]);
        add(false, true, &body["generationConfig"]["responseJsonSchema"]);
        add(false, true, &body["format"]);
    }
    found
}

fn sorted_required(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(names)) = map.get_mut("required") {
                names.sort_by_key(ToString::to_string);
            }
            map.values_mut().for_each(sorted_required);
        }
        Value::Array(items) => items.iter_mut().for_each(sorted_required),
        _ => {}
    }
}

#[test]
fn a_strict_schema_that_its_vendor_took_is_sent_as_it_is() {
    let mut same = 0;
    for Sent {
        id,
        provider,
        is_tool,
        schema,
        ..
    } in sent().into_iter().filter(|sent| sent.is_strict && sent.is_fine)
    {
        let dialect = match (provider.as_str(), is_tool) {
            ("anthropic", false) => Dialect::AnthropicStrict,
            ("anthropic", true) => Dialect::AnthropicStrictArguments,
            ("gemini" | "gemini_vertex", false) => Dialect::GeminiJson,
            ("ollama", false) => Dialect::Ollama,
            ("openai", true) => Dialect::OpenAiStrictArguments,
            ("openai", false) => Dialect::OpenAiStrict,
            (_, true) => Dialect::CompatibleStrictArguments,
            (_, false) => Dialect::CompatibleStrict,
        };
        let compiled = dialect.compile(&schema).expect(&id);
        let (mut was, mut is) = (schema.clone(), compiled.value);
        sorted_required(&mut was);
        sorted_required(&mut is);
        assert_eq!(was, is, "{id} {dialect:?}");
        same += 1;
    }
    println!("{same} strict schemas of recorded requests stay as they are");
}

#[test]
fn every_recorded_schema_becomes_one_that_each_dialect_takes() {
    let (mut done, mut refused) = (0, 0);
    for Sent { id, schema, .. } in sent() {
        for dialect in ALL {
            match dialect.compile(&schema) {
                Ok(compiled) => {
                    let faults = judge::faults(dialect, &compiled.value);
                    assert!(
                        faults.is_empty(),
                        "{id} {dialect:?}: {faults:?} in {}",
                        compiled.value
                    );
                    done += 1;
                }
                Err(error) => {
                    assert!(
                        matches!(error.code(), "unsupported"),
                        "{id} {dialect:?}: {error}: {schema}"
                    );
                    refused += 1;
                }
            }
        }
    }
    println!("{done} compiled, {refused} refused for their top");
}
