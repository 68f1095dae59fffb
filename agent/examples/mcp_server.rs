//! A server of the Model Context Protocol: two tools and something that answers questions.
//!
//!   cargo run -p stepwell-agent --features mcp --example mcp_server              over standard input and output
//!   cargo run -p stepwell-agent --features mcp --example mcp_server -- http      at an address, which it prints

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::{net::TcpListener, time::Duration};
use stepwell_agent::mcp::{HttpAccess, Server};
use stepwell_core::{AllowAll, Cancel, Result, Tool, ToolContext, ToolError};

#[derive(Deserialize, JsonSchema)]
struct AddArgs {
    /// The first number.
    a: i64,
    /// The second number.
    b: i64,
}

struct Add;

impl Tool for Add {
    const NAME: &'static str = "add";
    const DESCRIPTION: &'static str = "Adds two whole numbers.";
    type Args = AddArgs;
    type Output = i64;
    async fn call(&self, args: AddArgs, _: &ToolContext) -> Result<i64, ToolError> {
        args.a
            .checked_add(args.b)
            .ok_or_else(|| ToolError::Retry("the sum is too large; give smaller numbers".into()))
    }
}

#[derive(Deserialize, JsonSchema)]
struct CountArgs {
    /// How far.
    #[schemars(range(min = 1, max = 1000))]
    to: u32,
}

struct Count;

impl Tool for Count {
    const NAME: &'static str = "count";
    const DESCRIPTION: &'static str = "Counts, one number in 50 ms, and tells how far it is.";
    type Args = CountArgs;
    type Output = String;
    async fn call(&self, args: CountArgs, cx: &ToolContext) -> Result<String, ToolError> {
        for number in 1..=args.to {
            cx.cancel.check()?;
            cx.emit(json!({ "progress": number, "total": args.to, "message": format!("at {number}") }));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(format!("counted to {}", args.to))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let server = Server::new("sums", env!("CARGO_PKG_VERSION"))
        .instructions("Sums, counting, and a parrot.")
        .tool(Add)
        .tool(Count)
        // An agent goes in the same way, with `.agent("ask", "Answers …", agent)`.
        .answerer("parrot", "Repeats a question.", |question, _| async move {
            Ok(format!("You asked: {question}"))
        })
        .policy(AllowAll);
    if std::env::args().nth(1).as_deref() == Some("http") {
        let listener =
            TcpListener::bind("127.0.0.1:0").map_err(|error| stepwell_core::Error::io("listening", error))?;
        let address = listener
            .local_addr()
            .map_err(|error| stepwell_core::Error::io("listening", error))?;
        println!("http://{address}/mcp");
        return server
            .serve_http(listener, HttpAccess::new(), Cancel::new())
            .await;
    }
    server.serve_stdio().await
}
