//! The Model Context Protocol at an address: servers that behave badly to our client, and clients that behave badly to
//! our server.
#![cfg(feature = "mcp")]
#![allow(clippy::items_after_statements)] // a tool of one test stands in that test

mod support;

use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use stepwell_agent::{
    Agent,
    mcp::{Client, ClientLimits, Connect, Http, HttpAccess, Server, connect},
};
use stepwell_core::{
    AllowAll, Cancel, DynTool, Effect, Error, Limits, Origin, Part, Result, Risk, Scope, Tool, ToolContext,
    ToolError, ToolOptions, ToolOutput,
};
use support::Script;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

fn cx() -> ToolContext {
    ToolContext::new("c1", "r1", Scope::local())
}

fn tool(client: &Client, name: &str) -> Arc<dyn DynTool> {
    client
        .tools()
        .into_iter()
        .find(|tool| tool.spec().name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

async fn call(client: &Client, name: &str, arguments: Value) -> Result<ToolOutput, ToolError> {
    tool(client, name).call(arguments, &cx()).await
}

fn words(output: &ToolOutput) -> String {
    output.parts.iter().filter_map(Part::as_text).collect()
}

fn failure(outcome: Result<ToolOutput, ToolError>) -> String {
    match outcome {
        Err(ToolError::Failed(told)) => told,
        other => panic!("it should have failed: {other:?}"),
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// Servers that behave badly.

/// A server that plays a part, and all that was sent to it.
struct Peer {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    async fn playing(part: &'static str, elsewhere: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ears = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ears = Arc::clone(&ears);
                tokio::spawn(async move {
                    let _ = one(stream, part, elsewhere, &ears).await; // a client that leaves is none of the test
                });
            }
        });
        Self { address, heard, task }
    }

    fn url(&self) -> String {
        format!("http://{}/mcp?key=canary", self.address)
    }
}

/// One request, whole: its head and body.
async fn request(stream: &mut TcpStream) -> std::io::Result<(String, Value)> {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        text.extend(&piece[..count]);
        let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&text[..end]).into_owned();
        let length: usize = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length:")
                    .map(|n| n.trim().to_owned())
            })
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        if text.len() >= end + 4 + length {
            let body = serde_json::from_slice(&text[end + 4..]).unwrap_or_default();
            return Ok((head, body));
        }
    }
}

async fn say(stream: &mut TcpStream, status: &str, kind: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nmcp-session-id: s1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

async fn one(
    mut stream: TcpStream,
    part: &str,
    elsewhere: Option<SocketAddr>,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let (head, body) = request(&mut stream).await?;
    heard.lock().expect("whole").push(format!("{head}\n{body}"));
    let json = "application/json";
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": body["id"], "result": result }).to_string();
    match part {
        "silent" => std::future::pending().await,
        "page" => return say(&mut stream, "200 OK", "text/html", "<h1>canary</h1>").await,
        "key" => return say(&mut stream, "401 Unauthorized", "text/plain", "canary").await,
        "broken" => return say(&mut stream, "502 Bad Gateway", "text/html", "canary").await,
        "sends elsewhere" => {
            let to = elsewhere.expect("set");
            let head = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{to}/mcp\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            return stream.write_all(head.as_bytes()).await;
        }
        _ => {}
    }
    match body["method"].as_str().unwrap_or_default() {
        "initialize" => {
            let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} }, "serverInfo": { "name": "peer", "version": "0" } });
            say(&mut stream, "200 OK", json, &result(hello)).await
        }
        "tools/list" => {
            let tools = json!({ "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }] });
            say(&mut stream, "200 OK", json, &result(tools)).await
        }
        "tools/call" => match part {
            "long answer" => say(&mut stream, "200 OK", json, &"x".repeat(4 << 20)).await,
            "endless event" => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ")
                    .await?;
                loop {
                    stream.write_all(&vec![b'x'; 8_192]).await?;
                }
            }
            "dies" => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: here\n\n")
                    .await?;
                stream.shutdown().await
            }
            "forgets" => say(&mut stream, "404 Not Found", "text/plain", "who?").await,
            "mute" => std::future::pending().await,
            _ => {
                say(
                    &mut stream,
                    "200 OK",
                    json,
                    &result(json!({ "content": [{ "type": "text", "text": "hello" }] })),
                )
                .await
            }
        },
        method if method.starts_with("notifications/") => say(&mut stream, "202 Accepted", json, "").await,
        "server/discover" => {
            say(
                &mut stream,
                "400 Bad Request",
                json,
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no session"}}"#,
            )
            .await
        }
        _ => say(&mut stream, "405 Method Not Allowed", "text/plain", "").await,
    }
}

fn to(peer: &Peer) -> Connect {
    let mut limits = ClientLimits::default();
    limits.message_bytes = 1 << 20;
    connect(
        "peer",
        Http::new(peer.url()).header("authorization", "Bearer canary"),
    )
    .connect_timeout(Duration::from_secs(10))
    .call_timeout(Duration::from_secs(5))
    .limits(limits)
}

#[tokio::test]
async fn an_older_server_at_an_address_is_spoken_to_in_its_own_version() {
    let peer = Peer::playing("plain", None).await;
    let client = to(&peer).await.expect("connects");
    assert_eq!(
        words(&call(&client, "echo", json!({})).await.expect("works")),
        "hello"
    );
    let heard = peer.heard.lock().expect("whole").clone();
    assert!(
        heard
            .iter()
            .all(|head| head.contains("authorization: Bearer canary"))
    );
    assert!(
        heard
            .iter()
            .filter(|head| head.contains("tools/"))
            .all(|head| head.contains("mcp-session-id: s1"))
    );
}

#[tokio::test]
async fn a_server_that_does_not_speak_the_protocol_is_told_without_its_words_or_our_keys() {
    for (part, code) in [
        ("page", "invalid_response"),
        ("key", "unauthorized"),
        ("broken", "overloaded"),
        ("silent", "timeout"),
    ] {
        let peer = Peer::playing(part, None).await;
        let error = to(&peer)
            .connect_timeout(Duration::from_secs(2))
            .await
            .expect_err(part);
        let mut told = format!("{error} {error:?}");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            told = format!("{told} {error} {error:?}");
            cause = error.source();
        }
        assert_eq!(error.code(), code, "{part}: {told}");
        assert!(!told.contains("canary"), "{part}: {told}");
    }
    let error = connect("peer", Http::new("http://127.0.0.1:9/mcp"))
        .await
        .expect_err("nobody");
    assert!(matches!(error, Error::Transport { .. }), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_no_header_goes_along() {
    let other = Peer::playing("plain", None).await;
    let peer = Peer::playing("sends elsewhere", Some(other.address)).await;
    to(&peer).await.expect_err("it sends elsewhere");
    assert!(other.heard.lock().expect("whole").is_empty());
}

#[tokio::test]
async fn an_answer_over_the_limit_at_an_address_fails_the_call_only() {
    for part in ["long answer", "endless event"] {
        let peer = Peer::playing(part, None).await;
        let client = to(&peer).await.expect("connects");
        let begun = Instant::now();
        let told = failure(call(&client, "echo", json!({})).await);
        assert!(begun.elapsed() < Duration::from_secs(20), "{part}");
        assert!(
            told.contains("may or may not") && !told.contains("canary"),
            "{part}: {told}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_a_call_fails_it_and_the_call_is_not_sent_again() {
    let peer = Peer::playing("dies", None).await;
    let client = to(&peer).await.expect("connects");
    let told = failure(call(&client, "echo", json!({})).await);
    assert!(told.contains("may or may not"), "{told}");
    let calls = peer
        .heard
        .lock()
        .expect("whole")
        .iter()
        .filter(|head| head.contains("tools/call"))
        .count();
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn a_forgotten_session_is_made_anew_only_where_that_is_allowed() {
    let peer = Peer::playing("forgets", None).await;
    let client = to(&peer).await.expect("connects");
    let told = failure(call(&client, "echo", json!({})).await);
    assert!(told.contains("no longer knows the session"), "{told}");
    assert!(failure(call(&client, "echo", json!({})).await).contains("could not reach"));
    let greetings = || {
        peer.heard
            .lock()
            .expect("whole")
            .iter()
            .filter(|head| head.contains("\"initialize\""))
            .count()
    };
    assert_eq!(greetings(), 1);
    let client = to(&peer).reconnect(1).await.expect("connects");
    failure(call(&client, "echo", json!({})).await);
    failure(call(&client, "echo", json!({})).await);
    assert_eq!(greetings(), 3);
}

#[tokio::test]
async fn a_call_at_an_address_ends_with_its_time_and_with_its_run() {
    let peer = Peer::playing("mute", None).await;
    let client = to(&peer)
        .call_timeout(Duration::from_millis(300))
        .await
        .expect("connects");
    assert!(failure(call(&client, "echo", json!({})).await).contains("within 300ms"));
    let client = to(&peer).await.expect("connects");
    let cancel = Cancel::new();
    let facts = cx().with_cancel(cancel.clone());
    let tool = tool(&client, "echo");
    let (outcome, ()) = tokio::join!(tool.call(json!({}), &facts), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    });
    assert!(matches!(outcome, Err(ToolError::Fatal(Error::Cancelled))));
    until("the server hears of it", || {
        peer.heard
            .lock()
            .expect("whole")
            .iter()
            .any(|head| head.contains("notifications/cancelled"))
    })
    .await;
}

// Our server.

/// Does what its arguments say, and remembers how often it began and how often it was dropped.
#[derive(Clone, Default)]
struct Act {
    began: Arc<AtomicU32>,
    dropped: Arc<AtomicU32>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct ActArgs {
    what: String,
}

struct Dropped(Arc<AtomicU32>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Tool for Act {
    const NAME: &'static str = "act";
    const DESCRIPTION: &'static str = "Acts.";
    type Args = ActArgs;
    type Output = String;

    fn options(&self) -> ToolOptions {
        ToolOptions::default().timeout(Duration::from_secs(2))
    }

    async fn call(&self, args: ActArgs, _: &ToolContext) -> Result<String, ToolError> {
        self.began.fetch_add(1, Ordering::SeqCst);
        let _dropped = Dropped(Arc::clone(&self.dropped));
        match args.what.as_str() {
            "panic" => panic!("secret words"),
            "hang" => std::future::pending().await,
            "failed" => Err(ToolError::Failed("it is broken".into())),
            "host" => Err(ToolError::Fatal(Error::host("secret words"))),
            "big" => Ok("x".repeat(1 << 20)),
            what => Ok(format!("did {what}")),
        }
    }
}

/// Sends something out.
struct Send;

impl Tool for Send {
    const NAME: &'static str = "send";
    const DESCRIPTION: &'static str = "Sends.";
    type Args = ActArgs;
    type Output = String;

    fn options(&self) -> ToolOptions {
        ToolOptions::default()
            .effect(Effect::AtMostOnce)
            .risk(Risk::Egress)
    }

    async fn call(&self, _: ActArgs, _: &ToolContext) -> Result<String, ToolError> {
        Ok("sent".into())
    }
}

/// Our server at an address of this machine, ended with the test.
struct Ours {
    address: SocketAddr,
    task: JoinHandle<Result<()>>,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ours {
    fn serving(server: Server, access: HttpAccess) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(server.serve_http(listener, access, Cancel::new()));
        Self { address, task }
    }

    async fn client(&self) -> Client {
        connect("ours", Http::new(format!("http://{}/mcp", self.address)))
            .await
            .expect("connects")
    }

    /// A request written by hand; the answer's head and the begin of its body.
    async fn ask(&self, host: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: {host}\r\naccept: application/json, text/event-stream\r\n\
             content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).await.expect("reads");
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }
}

const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"0"}}}"#;

#[tokio::test]
async fn calls_to_our_server_go_through_the_same_checks_as_in_a_run() {
    let act = Act::default();
    let server = Server::new("ours", "1").tool(act.clone()).tool(Send);
    let ours = Ours::serving(server, HttpAccess::new());
    let client = ours.client().await;
    let act_on = async |what: &str| call(&client, "act", json!({ "what": what })).await;
    assert_eq!(words(&act_on("well").await.expect("works")), "did well");
    assert_eq!(failure(act_on("failed").await), "it is broken");
    assert_eq!(failure(act_on("panic").await), "the tool failed unexpectedly");
    assert_eq!(failure(act_on("host").await), "the tool failed");
    let big = words(&act_on("big").await.expect("works"));
    assert!(big.len() <= Limits::default().tool_output_bytes && big.contains("1048576 bytes in all"));
    let begun = Instant::now();
    assert!(failure(act_on("hang").await).contains("did not end within 2s"));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(
        act.began.load(Ordering::SeqCst),
        act.dropped.load(Ordering::SeqCst)
    );
    let told = failure(call(&client, "send", json!({ "what": "x" })).await);
    assert!(
        told.contains("nobody to ask") && told.contains("did not run"),
        "{told}"
    );
}

#[tokio::test]
async fn a_program_may_allow_what_its_server_does() {
    let ours = Ours::serving(
        Server::new("ours", "1").tool(Send).policy(AllowAll),
        HttpAccess::new(),
    );
    let client = ours.client().await;
    assert_eq!(
        words(
            &call(&client, "send", json!({ "what": "x" }))
                .await
                .expect("allowed")
        ),
        "sent"
    );
}

#[tokio::test]
async fn a_call_that_its_client_cancels_or_leaves_ends_in_our_server_too() {
    let act = Act::default();
    let slow = Limits::default();
    let ours = Ours::serving(
        Server::new("ours", "1").tool(act.clone()).limits(slow),
        HttpAccess::new(),
    );
    let client = ours.client().await;
    for round in 1..=2 {
        let (cancel, tool) = (Cancel::new(), tool(&client, "act"));
        let facts = cx().with_cancel(cancel.clone());
        let mut hanging = Box::pin(tool.call(json!({ "what": "hang" }), &facts));
        let begun = Instant::now();
        while act.began.load(Ordering::SeqCst) < round {
            assert!(
                tokio::time::timeout(Duration::from_millis(20), &mut hanging)
                    .await
                    .is_err()
            );
        }
        if round == 1 {
            cancel.cancel();
            assert!(matches!(hanging.await, Err(ToolError::Fatal(Error::Cancelled))));
        } else {
            drop(hanging);
        }
        until("the tool is dropped", || {
            act.dropped.load(Ordering::SeqCst) == round
        })
        .await;
        assert!(
            begun.elapsed() < Duration::from_millis(1_800),
            "it was cancelled, not overdue"
        );
    }
}

#[tokio::test]
async fn an_agent_is_served_as_a_tool_that_answers_a_question() {
    let model = Script::new(vec![vec![Part::text("It is warm.", Origin::Model)]]);
    let agent = Agent::new(model).build().expect("builds");
    let server = Server::new("ours", "1").agent("ask", "Answers questions about the weather.", agent);
    let ours = Ours::serving(server, HttpAccess::new());
    let client = ours.client().await;
    let question = json!({ "question": "How warm is it?" });
    assert_eq!(
        words(&call(&client, "ask", question.clone()).await.expect("works")),
        "It is warm."
    );
    let silent = Agent::new(Script::new(Vec::new())).build().expect("builds");
    let ours = Ours::serving(
        Server::new("ours", "1").agent("ask", "Fails.", silent),
        HttpAccess::new(),
    );
    failure(call(&ours.client().await, "ask", question).await);
}

#[tokio::test]
async fn a_web_page_reaches_our_server_only_from_where_it_is_allowed() {
    let server = || Server::new("ours", "1").tool(Act::default());
    let ours = Ours::serving(server(), HttpAccess::new());
    let here = ours.address.to_string();
    let status = |answer: String| answer.split(' ').nth(1).expect("a status").to_owned();
    assert_eq!(status(ours.ask(&here, "", HELLO).await), "200");
    assert_eq!(status(ours.ask("localhost", "", HELLO).await), "200");
    assert_eq!(status(ours.ask("evil.example", "", HELLO).await), "403");
    assert_eq!(
        status(
            ours.ask(
                &format!("127.0.0.1.evil.example:{}", ours.address.port()),
                "",
                HELLO
            )
            .await
        ),
        "403"
    );
    for origin in ["https://evil.example", "http://localhost", "null"] {
        assert_eq!(
            status(ours.ask(&here, &format!("origin: {origin}\r\n"), HELLO).await),
            "403",
            "{origin}"
        );
    }
    let access = HttpAccess::new()
        .host("tools.example")
        .origin("https://app.example:443");
    let ours = Ours::serving(server(), access);
    let answer = ours
        .ask("tools.example", "origin: https://app.example\r\n", HELLO)
        .await;
    assert_eq!(status(answer), "200");
    assert_eq!(
        status(
            ours.ask("tools.example", "origin: https://evil.example\r\n", HELLO)
                .await
        ),
        "403"
    );
}

#[tokio::test]
async fn a_token_is_asked_for_where_one_is_set_and_always_beyond_this_machine() {
    let server = || Server::new("ours", "1").tool(Act::default());
    let ours = Ours::serving(server(), HttpAccess::new().token("let-me-in"));
    let here = ours.address.to_string();
    for headers in [
        "",
        "authorization: Bearer let-me\r\n",
        "authorization: let-me-in\r\n",
    ] {
        let answer = ours.ask(&here, headers, HELLO).await;
        assert!(
            answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Bearer"),
            "{answer}"
        );
    }
    let address = format!("http://{here}/mcp");
    let error = connect("ours", Http::new(&address)).await.expect_err("no token");
    assert_eq!(error.code(), "unauthorized");
    connect(
        "ours",
        Http::new(&address).header("authorization", "Bearer let-me-in"),
    )
    .await
    .expect("with it");
    let everywhere = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let error = server()
        .serve_http(everywhere, HttpAccess::new(), Cancel::new())
        .await
        .expect_err("no token");
    assert!(matches!(error, Error::InvalidInput { .. }));
}

#[tokio::test]
async fn bodies_that_are_too_long_or_no_messages_are_refused_and_the_server_goes_on() {
    let ours = Ours::serving(Server::new("ours", "1").tool(Act::default()), HttpAccess::new());
    let here = ours.address.to_string();
    let mut stream = TcpStream::connect(ours.address).await.expect("it listens");
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {here}\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    for _ in 0..80 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 1024];
    let count = stream.read(&mut answer).await.unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 413"),
        "{answer}"
    );
    for body in [
        "",
        "{",
        "null",
        "[]",
        r#"{"jsonrpc":"2.0"}"#,
        &"[".repeat(100_000),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"act","arguments":{}}}"#,
    ] {
        let answer = ours.ask(&here, "", body).await;
        assert!(
            answer.starts_with("HTTP/1.1 4"),
            "{}: {answer}",
            &body[..body.len().min(20)]
        );
    }
    assert_eq!(
        words(
            &call(&ours.client().await, "act", json!({ "what": "well" }))
                .await
                .expect("works")
        ),
        "did well"
    );
}

#[tokio::test]
async fn tools_that_cannot_be_served_are_told_before_anything_is() {
    let twice = Server::new("ours", "1").tool(Act::default()).tool(Act::default());
    let error = twice.http_service(HttpAccess::new()).expect_err("twice");
    assert!(error.to_string().contains("two tools have this name"), "{error}");
    let named = Server::new("ours", "1").answerer("no name", "", |question, _| async move { Ok(question) });
    assert!(matches!(
        named.http_service(HttpAccess::new()),
        Err(Error::InvalidInput { .. })
    ));
}

#[tokio::test]
async fn a_server_at_an_address_ends_when_its_switch_is_pulled() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let stop = Cancel::new();
    let serving =
        Server::new("ours", "1")
            .tool(Act::default())
            .serve_http(listener, HttpAccess::new(), stop.clone());
    let (ended, ()) = tokio::join!(serving, async {
        connect("ours", Http::new(format!("http://{address}/mcp")))
            .await
            .expect("connects");
        stop.cancel();
    });
    ended.expect("it ended");
    assert!(TcpStream::connect(address).await.is_err());
}
