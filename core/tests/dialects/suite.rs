//! The suite of JSON Schema 2020-12 through every dialect.

use crate::{ALL, groups, judge};
use serde_json::{Value, json};
use stepwell_core::{Dialect, Schema};

/// The schema as a property of an object, for dialects that want an object at the top.
fn wrapped(schema: &Value) -> Value {
    let mut inner = schema.clone();
    let definitions = inner.as_object_mut().and_then(|map| map.shift_remove("$defs"));
    let mut outer = json!({ "type": "object", "properties": { "value": inner }, "required": ["value"] });
    if let Some(definitions) = definitions {
        outer["$defs"] = definitions;
    }
    outer
}

#[test]
fn what_keeps_to_a_compiled_schema_keeps_to_the_given_one_but_for_what_the_report_names() {
    let groups = groups();
    let (mut held, mut kept, mut valid, mut refused, mut faults) = (0, 0, 0, 0, Vec::new());
    for group in &groups {
        let id = group["id"].as_str().expect("an id");
        for dialect in ALL {
            let is_bare = Schema::from_value(group["schema"].clone()).is_ok();
            for is_wrapped in [false, true] {
                let given = if is_wrapped {
                    wrapped(&group["schema"])
                } else {
                    group["schema"].clone()
                };
                let Ok(schema) = Schema::from_value(given.clone()) else {
                    assert!(is_wrapped || !is_bare);
                    continue;
                };
                let compiled = match dialect.compile(&given) {
                    Ok(compiled) => compiled,
                    Err(error) => {
                        assert!(
                            matches!(error.code(), "unsupported" | "invalid_input" | "limit_exceeded"),
                            "{id} {dialect:?}: {error}"
                        );
                        refused += 1;
                        continue;
                    }
                };
                assert_eq!(
                    compiled,
                    dialect.compile(&given).expect("again"),
                    "{id}: the same twice"
                );
                for fault in judge::faults(dialect, &compiled.value) {
                    faults.push(format!("{id} {dialect:?}: {fault} in {}", compiled.value));
                }
                let read = judge::as_json_schema(dialect, &compiled.value);
                let checked = match Schema::from_value(read) {
                    Ok(checked) => checked,
                    Err(error) => {
                        faults.push(format!("{id} {dialect:?}: {error} in {}", compiled.value));
                        continue;
                    }
                };
                for test in group["tests"].as_array().expect("tests") {
                    let data = if is_wrapped {
                        json!({ "value": test["data"] })
                    } else {
                        test["data"].clone()
                    };
                    let is_valid = schema.check(&data).is_ok();
                    valid += usize::from(is_valid);
                    match judge::breach(&schema, &compiled, &checked, &data) {
                        None => {}
                        Some(Ok(())) => {
                            held += 1;
                            kept += usize::from(is_valid);
                        }
                        Some(Err(breach)) => faults.push(format!(
                            "{id} {dialect:?}: {breach}: {data} fits {} but not {given}; told {:?}",
                            compiled.value,
                            compiled
                                .losses
                                .iter()
                                .map(ToString::to_string)
                                .collect::<Vec<_>>()
                        )),
                    }
                }
            }
        }
    }
    println!(
        "{held} values held against {} schemas in {} dialects; {kept} of {valid} valid ones still fit; {refused} refused",
        groups.len(),
        ALL.len()
    );
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults[..faults.len().min(25)].join("\n")
    );
    assert!(
        groups.is_empty() || kept * 3 > valid,
        "the compiled schemas still let valid values through"
    );
}

#[test]
fn a_schema_that_leaves_its_document_is_refused_by_every_dialect() {
    for dialect in ALL {
        for bad in ["other.json", "https://example.com/s", "file:///etc/passwd"] {
            let given = json!({ "type": "object", "properties": { "a": { "$ref": bad } } });
            let error = dialect.compile(&given).expect_err(bad);
            assert_eq!(error.code(), "invalid_input", "{dialect:?}");
        }
    }
    let nowhere = json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/none" } } });
    assert_eq!(
        Dialect::OpenAiStrict
            .compile(&nowhere)
            .expect_err("leads nowhere")
            .code(),
        "invalid_input"
    );
}

#[test]
fn a_loss_excuses_what_it_names_and_nothing_elsewhere() {
    let given = json!({ "type": "object", "required": ["a", "b"], "properties": {
        "a": { "type": "array", "items": { "type": "string" } },
        "b": { "$ref": "#/$defs/n" } }, "$defs": { "n": { "type": "integer", "minimum": 1 } } });
    let schema = Schema::from_value(given.clone()).expect("a schema");
    let mut compiled = Dialect::AnthropicStrict.compile(&given).expect("compiles");
    let checked = Schema::from_value(compiled.value.clone()).expect("a schema");
    let value = json!({ "a": [], "b": 0 });
    let breach = |compiled: &_| judge::breach(&schema, compiled, &checked, &value).expect("it fits");
    assert_eq!(breach(&compiled), Ok(()));
    let told = |loss: &&mut stepwell_core::SchemaLoss| loss.keyword == "minimum";
    for elsewhere in [
        "/properties/a/items",
        "/properties/a/anyOf",
        "/properties/a/minimum",
        "/$defs/n/maximum",
    ] {
        let loss = compiled.losses.iter_mut().find(told).expect("it is told");
        loss.pointer = elsewhere.to_owned();
        assert_eq!(
            breach(&compiled),
            Err("at /b `/properties/b/$ref/minimum`".to_owned()),
            "{elsewhere}"
        );
    }
    for around in ["/properties/b", "/properties/b/$ref", "/$defs/n"] {
        compiled.losses.iter_mut().find(told).expect("it is told").pointer = around.to_owned();
        assert_eq!(breach(&compiled), Ok(()), "{around}");
    }
}
