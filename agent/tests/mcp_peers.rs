//! A server and a client that others wrote, from a package registry: `npm ci` in `tests/mcp` gets them. Without them
//! these tests skip; with `STEPWELL_MCP_PEERS=1` they fail instead.
#![cfg(feature = "mcp")]

use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Stdio as Pipe,
    sync::{Arc, Mutex},
    time::Duration,
};
use stepwell_agent::mcp::{Client, Http, Pins, Stdio, connect};
use stepwell_core::{
    DynTool, Effect, MediaSource, Origin, Part, Risk, Scope, ToolContext, ToolError, ToolOutput,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp")
}

/// Whether the peers are there.
fn are_installed() -> bool {
    let is_there = folder()
        .join("node_modules/@modelcontextprotocol/server-everything")
        .exists();
    assert!(
        is_there || std::env::var_os("STEPWELL_MCP_PEERS").is_none(),
        "the peers are missing: run `npm ci` in agent/tests/mcp"
    );
    if !is_there {
        println!("skipped: 1 (run `npm ci` in agent/tests/mcp)");
    }
    is_there
}

fn everything() -> PathBuf {
    folder().join("node_modules/@modelcontextprotocol/server-everything/dist/index.js")
}

/// Our server, built as an example beside this test.
fn our_server() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a program");
    let built = test
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/<test>")
        .join("examples/mcp_server");
    assert!(
        built.with_extension(std::env::consts::EXE_EXTENSION).exists(),
        "build it: cargo build -p stepwell-agent --features mcp --example mcp_server"
    );
    built
}

fn tool(client: &Client, name: &str) -> Arc<dyn DynTool> {
    client
        .tools()
        .into_iter()
        .find(|tool| tool.spec().name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

async fn call(client: &Client, name: &str, arguments: Value) -> Result<ToolOutput, ToolError> {
    let cx = ToolContext::new("c1", "r1", Scope::local());
    tool(client, name).call(arguments, &cx).await
}

fn words(output: &ToolOutput) -> String {
    output
        .parts
        .iter()
        .filter_map(Part::as_text)
        .collect::<Vec<_>>()
        .join("\n")
}

/// What every transport has to do alike.
async fn uses_everything(client: &Client) {
    assert!(client.findings().is_empty(), "{:?}", client.findings());
    assert_eq!(
        words(
            &call(client, "echo", json!({ "message": "hello" }))
                .await
                .expect("works")
        ),
        "Echo: hello"
    );
    let sum = call(client, "get-sum", json!({ "a": 2, "b": 40 }))
        .await
        .expect("works");
    assert_eq!(words(&sum), "The sum of 2 and 40 is 42.");
    let misfit = call(client, "get-sum", json!({ "a": "two", "b": 40 })).await;
    assert!(matches!(misfit, Err(ToolError::Retry(told)) if told.contains("/a")));
    let image = call(client, "get-tiny-image", json!({})).await.expect("works");
    let media: Vec<&str> = image
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Media(media) if matches!(&media.source, MediaSource::Bytes(bytes) if bytes.starts_with(b"\x89PNG")) => Some(&*media.media_type),
            _ => None,
        })
        .collect();
    assert_eq!(media, ["image/png"]);
    assert!(image.parts.iter().all(|part| part.origin() == Origin::Tool));
    let weather = call(
        client,
        "get-structured-content",
        json!({ "location": "New York" }),
    )
    .await
    .expect("works");
    assert!(
        weather
            .parts
            .iter()
            .any(|part| matches!(part, Part::Data(data) if data.value["temperature"].is_number())),
        "{weather:?}"
    );
    let links = call(client, "get-resource-links", json!({ "count": 2 }))
        .await
        .expect("works");
    assert!(
        words(&links).contains("[link to the resource demo://"),
        "{}",
        words(&links)
    );
    let resource = call(
        client,
        "get-resource-reference",
        json!({ "resourceType": "Text", "resourceId": 1 }),
    )
    .await
    .expect("works");
    assert!(
        words(&resource).contains("[resource demo://"),
        "{}",
        words(&resource)
    );
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let ear = Arc::clone(&heard);
    let cx = ToolContext::new("c1", "r1", Scope::local()).with_progress(Arc::new(move |told| {
        ear.lock().expect("whole").push(told["progress"].clone());
    }));
    let long = tool(client, "trigger-long-running-operation");
    long.call(json!({ "duration": 0.5, "steps": 5 }), &cx)
        .await
        .expect("works");
    assert_eq!(
        *heard.lock().expect("whole"),
        [1.0, 2.0, 3.0, 4.0, 5.0].map(Value::from)
    );
    assert_eq!(
        (long.options().effect, long.options().risk),
        (Effect::AtMostOnce, Risk::Write),
        "hints are not trusted"
    );
}

#[tokio::test]
async fn a_real_server_works_as_a_child() {
    if !are_installed() {
        return;
    }
    let server = || Stdio::new("node").arg(everything()).arg("stdio");
    let client = connect("everything", server())
        .trust_hints(false)
        .await
        .expect("connects");
    uses_everything(&client).await;
    let pins = client.pins();
    assert!(pins.names().count() > 8, "{pins:?}");
    connect("everything", server())
        .pinned(pins.clone())
        .await
        .expect("it says the same again");
    let mut wrong: Value = serde_json::to_value(&pins).expect("writes");
    wrong["get-sum"] = json!("0");
    let wrong: Pins = serde_json::from_value(wrong).expect("reads");
    let error = connect("everything", server())
        .pinned(wrong)
        .await
        .expect_err("another digest");
    assert!(error.to_string().contains("`get-sum`"), "{error}");
    let told = words(&call(&client, "get-env", json!({})).await.expect("works"));
    assert!(
        told.contains("PATH") && !told.contains("CARGO_"),
        "it got more than it should"
    );
}

/// A child that ends with the test.
fn started(command: &mut Command) -> Child {
    command
        .kill_on_drop(true)
        .stdin(Pipe::null())
        .spawn()
        .expect("starts")
}

#[tokio::test]
async fn a_real_server_works_at_an_address() {
    if !are_installed() {
        return;
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let mut server = started(
        Command::new("node")
            .arg(everything())
            .arg("streamableHttp")
            .env("PORT", port.to_string())
            .stdout(Pipe::null())
            .stderr(Pipe::piped()),
    );
    let mut lines = BufReader::new(server.stderr.take().expect("a pipe")).lines();
    while let Some(line) = lines.next_line().await.expect("reads") {
        if line.contains("listening") {
            break;
        }
    }
    let keep_reading = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let address = format!("http://127.0.0.1:{port}/mcp");
    let client = connect("everything", Http::new(&address).header("x-key", "k"))
        .await
        .expect("connects");
    uses_everything(&client).await;
    server.kill().await.expect("ends");
    let told = call(&client, "echo", json!({ "message": "hello" })).await;
    assert!(
        matches!(&told, Err(ToolError::Failed(told)) if told.contains("nobody answers")),
        "{told:?}"
    );
    keep_reading.abort();
}

/// What the real client has to see of our server.
async fn is_seen(arguments: &[&str]) {
    let output = tokio::time::timeout(
        Duration::from_mins(1),
        Command::new("node")
            .arg(folder().join("client.mjs"))
            .args(arguments)
            .kill_on_drop(true)
            .output(),
    )
    .await
    .expect("it ends")
    .expect("node starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let seen: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(seen["server"]["name"], "sums");
    assert_eq!(seen["instructions"], "Sums, counting, and a parrot.");
    let tools = seen["tools"].as_array().expect("a list");
    let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["add", "count", "parrot"]);
    assert_eq!(tools[0]["annotations"]["readOnlyHint"], true);
    assert_eq!(
        tools[0]["inputSchema"]["properties"]["a"]["description"],
        "The first number."
    );
    assert_eq!(seen["sum"]["content"], json!([{ "type": "text", "text": "5" }]));
    assert_eq!(seen["misfit"]["isError"], true);
    assert!(
        seen["misfit"]["content"][0]["text"]
            .as_str()
            .is_some_and(|told| told.contains("/a")),
        "{}",
        seen["misfit"]
    );
    assert_eq!(seen["unknown"]["code"], -32602);
    let steps: Vec<u64> = seen["progress"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|told| told["progress"].as_u64())
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
    assert_eq!(seen["counted"]["content"][0]["text"], "counted to 5");
    assert!(
        seen["stopped"]["message"]
            .as_str()
            .is_some_and(|told| told.contains("enough")),
        "{}",
        seen["stopped"]
    );
    assert_eq!(seen["beside"][3]["content"][0]["text"], "8");
    assert_eq!(seen["answer"]["content"][0]["text"], "You asked: Who?");
}

#[tokio::test]
async fn a_real_client_works_with_our_server_as_its_child() {
    if !are_installed() {
        return;
    }
    is_seen(&["stdio", our_server().to_str().expect("a plain path")]).await;
}

/// Our server at an address, and the address.
async fn our_server_at_an_address() -> (Child, String) {
    let mut server = started(Command::new(our_server()).arg("http").stdout(Pipe::piped()));
    let mut lines = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    let address = lines
        .next_line()
        .await
        .expect("reads")
        .expect("it prints its address");
    (server, address)
}

#[tokio::test]
async fn a_real_client_works_with_our_server_at_an_address() {
    if !are_installed() {
        return;
    }
    let (_server, address) = our_server_at_an_address().await;
    is_seen(&["http", &address]).await;
}

#[tokio::test]
async fn our_client_and_our_server_understand_each_other_both_ways() {
    let (_server, address) = our_server_at_an_address().await;
    let child = connect("ours", Stdio::new(our_server())).await.expect("connects");
    let remote = connect("ours", Http::new(address)).await.expect("connects");
    assert_eq!(child.pins(), remote.pins());
    for client in [child, remote] {
        assert_eq!(
            words(
                &call(&client, "add", json!({ "a": 2, "b": 3 }))
                    .await
                    .expect("works")
            ),
            "5"
        );
        let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
        let ear = Arc::clone(&heard);
        let cx = ToolContext::new("c1", "r1", Scope::local())
            .with_progress(Arc::new(move |told| ear.lock().expect("whole").push(told)));
        tool(&client, "count")
            .call(json!({ "to": 3 }), &cx)
            .await
            .expect("works");
        let heard = heard.lock().expect("whole").clone();
        assert_eq!(heard.len(), 3);
        assert_eq!(
            heard[2],
            json!({ "progress": 3.0, "total": 3.0, "message": "at 3" })
        );
        let answer = call(&client, "parrot", json!({ "question": "Who?" }))
            .await
            .expect("works");
        assert_eq!(words(&answer), "You asked: Who?");
        let none = call(&client, "parrot", json!({ "question": "" })).await;
        assert!(matches!(none, Err(ToolError::Retry(_))));
    }
}
