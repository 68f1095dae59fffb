//! The page about a run, made from real runs and looked at in a real browser where there is one.

mod support;

use async_trait::async_trait;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use stepwell_agent::{
    Approval, Channels, ChannelsUpdate, Command, END, Graph, GraphBuilder, ModelNode, NodeError, NodeOptions,
    Outcome, Reducer, Report, RunContext, RunFile, START, State, Subgraph, ToolsNode, node_fn, node_sync,
    retriever_tool,
};
use stepwell_core::{
    AskBeforeEffects, ChatModel, Chunk, Document, Effect, Explanation, Hit, IntoDynTool, Message, Origin,
    Part, Query, Result, Retriever, Risk, Scope, Tool, ToolContext, ToolError, ToolOptions,
    store::{RunStatus, RunStore},
};
use support::{LogStore, Script};

/// Finds notes that share a word with the query.
#[derive(Debug)]
struct Notes(Vec<Document>);

#[async_trait]
impl Retriever for Notes {
    async fn retrieve(&self, query: &Query) -> Result<Vec<Hit>> {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let words: BTreeSet<String> = query
            .text
            .to_lowercase()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let mut hits = Vec::new();
        for document in &self.0 {
            let shared = document
                .text
                .to_lowercase()
                .split_whitespace()
                .filter(|word| words.contains(*word))
                .count();
            if shared > 0 {
                let chunk = Chunk::of(document, 0, 0..document.text.len())?;
                hits.push(Hit::new(
                    chunk,
                    shared as f32 / words.len() as f32,
                    Explanation::default(),
                ));
            }
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(hits)
    }
}

/// Orders something; costs money.
#[derive(Clone, Debug)]
struct Order;

#[derive(Deserialize, schemars::JsonSchema)]
struct OrderArgs {
    /// What.
    what: String,
}

impl Tool for Order {
    const NAME: &'static str = "order";
    const DESCRIPTION: &'static str = "Orders something; costs money.";
    type Args = OrderArgs;
    type Output = String;

    fn options(&self) -> ToolOptions {
        ToolOptions::default()
            .effect(Effect::AtMostOnce)
            .risk(Risk::Write)
    }

    async fn call(&self, args: OrderArgs, _: &ToolContext) -> Result<String, ToolError> {
        tokio::time::sleep(Duration::from_millis(40)).await;
        if args.what.contains("gold") {
            return Err(ToolError::Failed("gold is out of stock".into()));
        }
        Ok(format!("ordered {}", args.what))
    }
}

fn state() -> Channels {
    Channels::new()
        .slot("messages", Reducer::Messages)
        .slot("found", Reducer::Append)
        .slot("words", Reducer::Add)
        .slot("summary", Reducer::Last)
}

fn asks(state: &Channels) -> &'static str {
    let last = state
        .messages_of("messages")
        .ok()
        .and_then(|messages| messages.last());
    match last {
        Some(message) if message.tool_calls().next().is_some() => "tools",
        _ => "write",
    }
}

async fn fail(_: &Channels, _: &RunContext) -> Result<ChannelsUpdate, NodeError> {
    tokio::time::sleep(Duration::from_millis(15)).await;
    Err(NodeError::new("the printer is on fire"))
}

async fn publish(_: &Channels, cx: &RunContext) -> Result<ChannelsUpdate, NodeError> {
    let number: u32 = cx.step("number", async { Ok::<_, NodeError>(17) }).await?;
    let yes: bool = cx.ask("publish", json!({ "edition": number })).await?;
    Ok(ChannelsUpdate::new().set("summary", format!("edition {number}, published: {yes}")))
}

/// Everything a run can have: model and tools, hits, approval, a graph inside a node, a failure that is handled, a question.
fn desk(model: Arc<dyn ChatModel>) -> Graph<Channels> {
    let notes = Notes(vec![
        Document::new(
            "sodium.md",
            "Sodium cathodes keep 91 % of their capacity after 500 cycles.",
        ),
        Document::new(
            "lithium.md",
            "Lithium cells keep 80 % after 1,000 cycles of full charge.",
        ),
    ]);
    let search = retriever_tool("search_notes", Arc::new(notes))
        .into_dyn_tool()
        .expect("a tool");
    let inner = GraphBuilder::new(state())
        .name("writer")
        .node(
            "draft",
            node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new().set("words", 120))),
        )
        .node(
            "review",
            node_sync(|state: &Channels, _| {
                std::thread::sleep(Duration::from_millis(8));
                Ok(ChannelsUpdate::new().set("found", json!([format!("{} words", state.get("words")?)])))
            }),
        )
        .edge(START, "draft")
        .edge("draft", "review")
        .route(
            "review",
            |state: &Channels| {
                if state.get("words").ok().and_then(|words| words.as_i64()) < Some(240) {
                    "draft"
                } else {
                    END
                }
            },
            ["draft", END],
        )
        .build()
        .expect("checked");
    let order = Order.into_dyn_tool().expect("a tool");
    GraphBuilder::new(state())
        .name("research desk")
        .node("model", ModelNode::new(model))
        .node(
            "tools",
            ToolsNode::new([search, order], Arc::new(AskBeforeEffects)),
        )
        .node(
            "write",
            Subgraph::new(
                inner,
                |_: &Channels, _| Ok(ChannelsUpdate::new()),
                |inner: Channels| Ok(ChannelsUpdate::new().set("words", inner.get("words")?)),
            ),
        )
        .node("print", node_fn(fail))
        .options(
            "print",
            NodeOptions::new().on_error(node_sync(|_: &Channels, cx: &RunContext| {
                let failure = cx.failure().unwrap_or_default();
                Ok(Command::update(
                    ChannelsUpdate::new().set("found", json!([failure.code])),
                ))
            })),
        )
        .node("publish", node_fn(publish))
        .node("never", node_sync(|_: &Channels, _| Ok(ChannelsUpdate::new())))
        .edge(START, "model")
        .route("model", asks, ["tools", "write"])
        .edge("tools", "model")
        .edge("write", "print")
        .edge("write", "publish")
        .edge("print", END)
        .edge("publish", END)
        .goto("publish", ["never"])
        .edge("never", END)
        .build()
        .expect("checked")
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn script() -> Arc<Script> {
    Script::new(vec![
        vec![
            Part::text("Let me look into the notes.", Origin::Model),
            Part::tool_call(
                "c1",
                "search_notes",
                json!({ "query": "sodium cathodes capacity" }),
            ),
            Part::tool_call("c2", "order", json!({ "what": "20 sodium cells" })),
            Part::tool_call("c3", "order", json!({ "what": "gold wire" })),
        ],
        vec![Part::text(
            "Sodium cathodes keep 91 % after 500 cycles [sodium.md#0]; the cells are ordered.",
            Origin::Model,
        )],
    ])
}

/// Runs the desk to its end and makes its page, with times from its events.
async fn page_of(question: &str, model: Arc<Script>) -> (Report, RunFile) {
    let store = LogStore::new();
    let graph = desk(model);
    let mut begun = state();
    let message = serde_json::to_value(Message::user(question)).expect("plain data");
    begun
        .apply(ChannelsUpdate::new().set("messages", json!([message])))
        .expect("it fits");
    let mut stream = graph
        .run(begun)
        .run_id("run-1")
        .store(Arc::clone(&store) as Arc<dyn RunStore>)
        .stream();
    let mut seen = Vec::new();
    loop {
        while let Some(event) = stream.next().await {
            seen.push((now_ms(), event));
        }
        let outcome: Outcome<Channels> = stream.take_result().expect("it ended");
        if outcome.status != RunStatus::Paused {
            assert_eq!(outcome.status, RunStatus::Done, "{:?}", outcome.error);
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await; // people take their time
        let mut next = graph
            .resume("run-1")
            .store(Arc::clone(&store) as Arc<dyn RunStore>);
        for question in &outcome.questions {
            next = match question.call_id {
                Some(_) => next.answer(&question.id, Approval::allow(question).expect("its payload")),
                None => next.answer(&question.id, true),
            };
        }
        stream = next.stream();
    }
    let file = RunFile::export(&*store, &Scope::local(), "run-1")
        .await
        .expect("it is there");
    let mut report = Report::of(&file).expect("read");
    for (at_ms, event) in &seen {
        report = report.event(*at_ms, event);
    }
    (report, file)
}

/// Elements and attributes of a page; text between them has no bare sign of markup.
fn check_markup(html: &str) {
    let rest = html
        .trim_start()
        .strip_prefix("<!doctype html>")
        .or_else(|| html.strip_prefix("<!DOCTYPE html>"));
    let mut rest = rest.expect("a page");
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..];
        let end = tag.find('>').expect("a tag ends");
        let inside = &tag[..end];
        rest = &tag[end + 1..];
        let name: String = inside
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        let known = "html head meta title style body main h1 h2 h3 p div span section b i br details summary code table tbody \
                     thead tr td th footer svg defs marker path rect g text";
        assert!(
            known.split_whitespace().any(|known| known == name),
            "an element `{inside}`"
        );
        for piece in inside.rsplit("=\"").skip(1) {
            let attribute = piece
                .rsplit([' ', '"'])
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            assert!(
                !attribute.starts_with("on") && attribute != "href" && attribute != "src",
                "`{inside}`"
            );
        }
    }
}

#[tokio::test]
async fn a_page_tells_the_run_and_leaves_its_words_out_unless_they_are_asked_for() {
    let (report, file) = page_of(
        "How long do sodium cathodes last? My code is CANARY-4711.",
        script(),
    )
    .await;
    let hidden = report.to_html();
    check_markup(&hidden);
    for word in [
        "CANARY-4711",
        "91 %",
        "20 sodium cells",
        "gold",
        "sodium.md",
        "printer",
        "edition",
        "Let me look",
    ] {
        assert!(!hidden.contains(word), "`{word}` is shown");
    }
    for word in [
        "research desk",
        "run-1",
        "search_notes",
        "order",
        "print",
        "publish",
        "summary",
        "did once",
        "number",
        "host",
        "text, 57 characters",
        "1 hit",
        "drawn short",
        "inside: writer",
        "tokens in",
        "taken up again 2 times",
        "The run&#39;s words are left out",
        "http-equiv=\"Content-Security-Policy\"",
    ] {
        assert!(
            hidden.contains(word) || hidden.contains(&word.replace("&#39;", "'")),
            "`{word}` is missing"
        );
    }
    let shown = report.with_content().to_html();
    check_markup(&shown);
    for word in [
        "CANARY-4711",
        "91 %",
        "20 sodium cells",
        "gold is out of stock",
        "sodium.md",
        "printer is on fire",
        "edition",
    ] {
        assert!(shown.contains(word), "`{word}` is missing");
    }
    let small = Report::of(&file)
        .expect("read")
        .with_content()
        .bytes(600)
        .to_html();
    check_markup(&small);
    assert!(
        small.contains("cut:") && small.contains("parts are cut"),
        "{small}"
    );
    assert!(small.len() < shown.len());
}

/// The naughty strings and the recorded attacks, where the fixtures are there; a few of our own always.
fn hostile() -> Vec<String> {
    let mut words: Vec<String> = [
        "<script>document.title='owned'</script>",
        "</div></main><img src=x onerror=document.title='owned'>",
        "\"><svg onload=document.title='owned'>",
        "</style><style>body{display:none}</style>",
        "<!-- ",
        "]]>",
        "\u{202e}desrever\u{0}\u{7}",
        "</title><meta http-equiv=refresh content='0;url=about:blank'>",
        "&lt;script&gt; &#x3c;b&#x3e;",
        "javascript:alert(1)",
    ]
    .map(str::to_owned)
    .to_vec();
    let folder = std::env::var_os("STEPWELL_FIXTURES")
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"),
            PathBuf::from,
        )
        .join("conformance");
    for (name, key) in [
        ("naughty.jsonl", "b64"),
        ("prompt_injection.jsonl", "instruction"),
    ] {
        let Ok(lines) = fs::read_to_string(folder.join(name)) else {
            println!("skipped: 1 (no fixture {name})");
            continue;
        };
        for line in lines.lines() {
            let case: Value = serde_json::from_str(line).expect("JSON lines");
            let text = case[key].as_str().unwrap_or_default();
            words.push(if key == "b64" {
                String::from_utf8_lossy(&base64(text)).into_owned()
            } else {
                text.to_owned()
            });
        }
    }
    words
}

fn base64(text: &str) -> Vec<u8> {
    let place = |letter: u8| -> Option<u32> {
        let signs = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        signs
            .iter()
            .position(|sign| *sign == letter)
            .and_then(|place| u32::try_from(place).ok())
    };
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for place in text.bytes().filter_map(place) {
        bits = (bits << 6) | place;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count).unwrap_or_default());
            bits &= (1 << count) - 1;
        }
    }
    out
}

/// A page whose every word is hostile: names of graph, nodes, tools and keys, messages, arguments, results, values.
async fn hostile_page() -> String {
    let words = hostile();
    let store = LogStore::new();
    let name = "<script>document.title='owned'<\\script>";
    let state = Channels::new()
        .slot("messages", Reducer::Messages)
        .slot("<b onclick=x>key", Reducer::Last);
    let values = words.clone();
    let all = words.clone();
    let graph = GraphBuilder::new(state.clone())
        .name("</title><script>document.title='owned'</script>")
        .node(
            name,
            node_sync(move |_: &Channels, _| {
                let calls: Vec<Part> = (0..)
                    .zip(&all)
                    .map(|(at, word)| {
                        Part::tool_call(format!("c{at}{word}"), word.clone(), json!({ word: word }))
                    })
                    .collect();
                let mut messages = vec![Message::new(stepwell_core::Role::Assistant, calls)];
                for word in &all {
                    let call = stepwell_core::ToolCall::new(word.clone(), word.clone(), json!(null));
                    let result = Part::tool_result(
                        &call,
                        vec![
                            Part::text(word.clone(), Origin::Tool),
                            Part::data(word.clone(), json!(word), Origin::Tool),
                        ],
                        true,
                        Origin::Tool,
                    );
                    messages.push(Message::tool(vec![result]));
                    messages.push(Message::user(word.clone()));
                }
                let messages: Vec<Value> = messages
                    .into_iter()
                    .filter_map(|message| serde_json::to_value(message).ok())
                    .collect();
                Ok(ChannelsUpdate::new()
                    .set("messages", messages)
                    .set("<b onclick=x>key", json!(values)))
            }),
        )
        .edge(START, name)
        .edge(name, END)
        .build()
        .expect("checked");
    graph
        .run(state)
        .run_id("r")
        .store(Arc::clone(&store) as Arc<dyn RunStore>)
        .await
        .expect("it ends");
    let file = RunFile::export(&*store, &Scope::local(), "r")
        .await
        .expect("it is there");
    Report::of(&file).expect("read").with_content().to_html()
}

#[tokio::test]
async fn no_word_of_a_run_becomes_markup() {
    let html = hostile_page().await;
    check_markup(&html);
    assert!(html.contains("&lt;script&gt;document.title"));
}

/// The browser, where there is one.
fn browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

fn browse(browser: &Path, profile: &Path, arguments: &[String]) -> (String, String) {
    let output = Process::new("timeout")
        .arg("90")
        .arg(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            "--no-first-run",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--v=0",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .output()
        .expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_browser_shows_the_page_and_runs_nothing_of_it() {
    let Some(browser) = browser() else {
        println!("skipped: 1 (no chromium)");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (report, _) = page_of("How long do sodium cathodes last?", script()).await;
    let pages = [
        ("page", report.with_content().to_html()),
        ("hostile", hostile_page().await),
    ];
    for (name, html) in pages {
        let path = folder.path().join(format!("{name}.html"));
        fs::write(&path, html).expect("written");
        let address = format!("file://{}", path.display());
        let profile = folder.path().join("profile");
        let (dom, log) = browse(&browser, &profile, &["--dump-dom".to_owned(), address.clone()]);
        assert!(!log.contains("CONSOLE"), "{log}");
        check_markup(&dom);
        let title = dom
            .split("<title>")
            .nth(1)
            .and_then(|rest| rest.split("</title>").next())
            .expect("a title");
        if name == "page" {
            assert_eq!(title, "research desk · run run-1");
            for word in [
                "Sodium cathodes keep 91 %",
                "gold is out of stock",
                "inside: writer",
                "edition 17, published: true",
            ] {
                assert!(dom.contains(word), "`{word}` is missing");
            }
        } else {
            assert!(title.contains("document.title="), "{title}");
        }
        let picture = folder.path().join(format!("{name}.png"));
        let arguments = [
            format!("--screenshot={}", picture.display()),
            "--window-size=1280,2000".to_owned(),
            address,
        ];
        browse(&browser, &profile, &arguments);
        let png = fs::read(&picture).expect("a picture");
        assert!(
            png.starts_with(b"\x89PNG") && png.len() > 40_000,
            "{} bytes",
            png.len()
        );
        if let Some(keep) = std::env::var_os("STEPWELL_PICTURES") {
            for ending in ["png", "html"] {
                let file = format!("{name}.{ending}");
                fs::copy(folder.path().join(&file), Path::new(&keep).join(&file)).expect("copied");
            }
        }
    }
}
