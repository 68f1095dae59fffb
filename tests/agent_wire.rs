//! Agents where the rooms of the house meet: a shape, tools and streaming over a real wire, and agents in the registry.

use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};
use stepwell::{
    StreamEvent,
    agent::{AgentModels, EventKind, Hooks, RunContext, Trim},
    prelude::*,
    providers::{ModelOptions, Registry, Scripted},
};

/// Reads one request; its body.
fn request(stream: &mut TcpStream) -> Value {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).expect("readable");
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                })
                .map_or(0, |length| length.trim().parse().expect("a number"));
            if body.len() >= length {
                return serde_json::from_str(body).expect("JSON");
            }
        }
        assert!(read > 0, "the request broke off");
    }
}

/// One streamed answer of Chat Completions, as the vendor documents it: these deltas, then the end.
fn answer(deltas: &[Value], finish: &str) -> String {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": choices, "usage": usage });
        format!("data: {chunk}\n\n")
    };
    let mut body = String::new();
    for delta in deltas {
        body += &chunk(
            json!([{ "index": 0, "delta": delta, "finish_reason": null }]),
            Value::Null,
        );
    }
    body += &chunk(
        json!([{ "index": 0, "delta": {}, "finish_reason": finish }]),
        Value::Null,
    );
    body += &chunk(
        json!([]),
        json!({ "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 }),
    );
    body + "data: [DONE]\n\n"
}

/// Plays these answers in turn over a real socket; gives back the requests it saw.
fn vendor(answers: Vec<String>) -> (String, thread::JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let server = thread::spawn(move || {
        let mut seen = Vec::new();
        for body in answers {
            let (mut stream, _) = listener.accept().expect("a caller");
            seen.push(request(&mut stream));
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body.as_bytes()))
                .expect("written");
        }
        seen
    });
    (address, server)
}

#[derive(Debug, PartialEq, Deserialize, schemars::JsonSchema)]
struct Report {
    city: String,
    celsius: f64,
}

/// Current temperature of a city.
#[tool]
async fn temperature(
    /// The city.
    city: String,
) -> Result<f64, ToolError> {
    match city.as_str() {
        "Oslo" => Ok(-3.5),
        _ => Err(ToolError::Retry("only Oslo is known".into())),
    }
}

#[tokio::test]
async fn a_shape_tools_a_second_try_and_streaming_go_together_over_a_real_wire() {
    let call = json!({ "role": "assistant", "tool_calls": [{ "index": 0, "id": "call_1", "type": "function",
        "function": { "name": "temperature", "arguments": "{\"city\":\"Oslo\"}" } }] });
    let text =
        |pieces: &[&str]| -> Vec<Value> { pieces.iter().map(|piece| json!({ "content": piece })).collect() };
    let (address, server) = vendor(vec![
        answer(&[call], "tool_calls"),
        answer(&text(&["{\"city\":", "\"Oslo\",\"celsius\":\"cold\"}"]), "stop"),
        answer(&text(&["{\"city\":\"Os", "lo\",\"celsius\":", "-3.5}"]), "stop"),
    ]);
    let options = ModelOptions::default().api_key("k").base_url(address);
    let model = Registry::with_vendors()
        .model_with("vllm/m", options)
        .expect("is made");
    let agent = Agent::new(model)
        .tool(temperature)
        .template("Weather for {{ who }}.")
        .variables(json!({ "who": "sailors" }))
        .output::<Report>()
        .context_policy(Trim::to_tokens(10_000))
        .build()
        .expect("no fault");
    let mut stream = agent.stream("How cold is it in Oslo?");
    let (mut deltas, mut ends) = (Vec::new(), 0);
    while let Some(event) = stream.next().await {
        match event.kind {
            EventKind::Model {
                event: StreamEvent::TextDelta { text, .. },
            } => deltas.push(text),
            EventKind::ToolEnd { result } => ends += usize::from(!result.is_error),
            _ => {}
        }
    }
    let result = stream.finish().await.expect("ended");
    assert!(result.error.is_none(), "{:?}", result.error);
    let expected = Report {
        city: "Oslo".into(),
        celsius: -3.5,
    };
    assert_eq!(result.output::<Report>().expect("a report"), expected);
    assert_eq!(
        (result.usage.input_tokens, result.usage.output_tokens),
        (Some(33), Some(21))
    );
    assert_eq!(ends, 1);
    assert!(
        deltas.len() >= 5 && deltas.concat().ends_with("-3.5}"),
        "{deltas:?}"
    );

    let seen = server.join().expect("the vendor ends");
    for body in &seen {
        assert_eq!(body["response_format"]["type"], "json_schema", "{body}");
        assert_eq!(body["tools"][0]["function"]["name"], "temperature");
        assert_eq!(body["messages"][0]["content"], "Weather for sailors.");
        assert_eq!(body["stream"], true);
    }
    let told = seen[2]["messages"]
        .as_array()
        .expect("messages")
        .last()
        .expect("one")
        .to_string();
    assert!(
        told.contains("user") && told.contains("schema") && told.contains("number"),
        "{told}"
    );
}

#[tokio::test]
async fn an_agent_is_found_in_the_registry_as_a_model_and_allowed_from_outside_like_one() {
    #[derive(Debug)]
    struct Count(std::sync::atomic::AtomicU32);
    #[async_trait::async_trait]
    impl Hooks for Count {
        async fn before_model(
            &self,
            _: &mut ChatRequest,
            _: &RunContext,
        ) -> Result<stepwell::agent::BeforeModel> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(stepwell::agent::BeforeModel::Ask)
        }
    }
    let script = Scripted::new()
        .call("temperature", json!({ "city": "Oslo" }))
        .say("It is -3.5 °C.");
    let agent = Agent::new(Arc::new(script))
        .tool(temperature)
        .hooks(Count(0.into()))
        .build()
        .expect("no fault");
    let (registry, agents) = (Registry::with_vendors(), AgentModels::new());
    stepwell::register_agents(&registry, &agents);
    agents.add("weather", agent).expect("a plain name");
    assert!(registry.vendors().contains(&"agent".to_owned()));
    let error = registry.model("agent/nobody").expect_err("a slip");
    assert!(
        error.code() == "not_found" && error.to_string().contains("weather"),
        "{error}"
    );
    assert!(
        registry.model_from_outside("agent/weather").is_err(),
        "nothing is allowed yet"
    );
    registry.allow(["agent/*"]);
    let model = registry.model_from_outside("agent:weather").expect("allowed");
    assert_eq!(model.info().name(), "agent/weather");
    let answer = model
        .chat("How cold is it in Oslo?".into())
        .await
        .expect("answers");
    assert_eq!(answer.text(), "It is -3.5 °C.");
    assert!(answer.usage.total() > 0);
    // An agent among the layers of models is a model too.
    let resilient = stepwell::providers::layers::resilient(registry.model("agent/weather").expect("found"));
    let error = resilient
        .chat("again".into())
        .await
        .expect_err("the script is over");
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test]
async fn an_agent_that_was_registered_is_a_model_of_the_process() {
    let build = |words: &str| {
        Agent::new(Arc::new(Scripted::new().say(words)))
            .build()
            .expect("no fault")
    };
    stepwell::register_agent("tutor", build("first")).expect("a plain name");
    stepwell::register_agent("tutor", build("second")).expect("it takes the place");
    let answer = model("agent/tutor")
        .expect("found")
        .chat("hi".into())
        .await
        .expect("answers");
    assert_eq!(answer.text(), "second");
    assert!(stepwell::register_agent("no/slash", build("x")).is_err());
}
