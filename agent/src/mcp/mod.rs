//! The Model Context Protocol: other programs' tools as ours, and our tools and agents as a server's.
//!
//! [`connect`] starts a server as a child process ([`Stdio`]) or goes to one at an address ([`Http`]), and gives its tools
//! as any other tools. What a server says is data: descriptions are bounded and shown with hidden characters written
//! out, hints count only where the program trusts them, results have [`Origin::Tool`](stepwell_core::Origin::Tool), and a
//! tool whose words change after it was handed out is refused until it is looked at again ([`Pins`]).
//!
//! Every version of the protocol from 2024-11-05 to 2026-07-28 is spoken. The library below (`rmcp`) writes what it sees
//! to `tracing` under its own name, contents too: keep `rmcp` at `warn` where logs are kept.

mod answer;
mod client;
mod connect;
mod content;
mod fault;
mod http;
mod link;
mod listing;
mod pins;
mod serve_http;
mod server;
mod stdio;
mod tool;
mod visible;
mod wire;

pub use client::{Client, Finding};
pub use connect::{ClientLimits, Connect, Endpoint, connect};
pub use fault::Ended;
pub use http::Http;
pub use pins::Pins;
pub use serve_http::{HttpAccess, HttpService};
pub use server::Server;
pub use stdio::Stdio;
