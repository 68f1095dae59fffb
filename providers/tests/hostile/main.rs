//! Servers that fail, lie, stall and never end, over real sockets: what the caller gets, and what never leaves.

#![allow(missing_docs)]

mod bodies;
mod canary;
mod cancel;
mod cuts;
mod environment;
mod http2;
mod limits;
mod redirects;
mod retries;
mod server;
mod timers;
mod tls;
mod wires;
