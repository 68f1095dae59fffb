//! What waits for the other side of the protocol, dropped after each of its polls. The others of the crate are in the
//! root's `tests/graph/dropped.rs`, with a table of all.

use super::{echo, failure, is_alive, playing, remembering, say, to, until, words};
use serde_json::json;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};
use stepwell_agent::mcp::{Client, Http, HttpAccess, Server, connect};
use stepwell_core::{AllowAll, Cancel, Error};

/// Polls a future whenever it wakes, so often at most, and drops it; what it came to where it did.
pub(crate) async fn polled<T>(future: impl Future<Output = T>, polls: u32) -> Option<T> {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_dropped_after_any_poll_leaves_no_server_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("processes");
    for polls in 0.. {
        let made = polled(connect("peer", remembering("noted", &file)).into_future(), polls).await;
        let is_over = made.is_some();
        if let Some(made) = made {
            assert_eq!(made.expect("connects").tools().len(), 1);
        }
        until("all that were started have ended", || {
            let processes = std::fs::read_to_string(&file).unwrap_or_default();
            processes
                .lines()
                .all(|id| !is_alive(id.parse().expect("a number")))
        })
        .await;
        if is_over {
            assert!(polls > 2, "{polls} polls");
            break;
        }
    }
}

/// A client of a server that has changed its tool, and has said so.
async fn changed(client: &Client) {
    say(&echo(client), "one").await.expect("as it was");
}

#[tokio::test]
async fn a_list_that_was_not_read_to_its_end_is_read_before_the_next_call() {
    for way in ["call", "refresh", "repin"] {
        for polls in 0.. {
            let client = to("changes").await.expect("connects");
            let (tool, pins) = (echo(&client), client.pins());
            changed(&client).await;
            let is_over = match way {
                "call" => polled(say(&tool, "dropped"), polls).await.is_some(),
                "refresh" => Box::pin(polled(client.refresh(), polls)).await.is_some(),
                _ => Box::pin(polled(client.repin(pins), polls)).await.is_some(),
            };
            let told = failure(say(&tool, "two").await);
            assert!(
                told.contains("says something else"),
                "{way} dropped after poll {polls}: {told}"
            );
            if is_over {
                assert!(polls > 1, "{way}: {polls} polls");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_list_that_was_read_and_refused_is_not_forgotten() {
    let pins = to("changes").await.expect("connects").pins();
    let client = to("changes").pinned(pins).await.expect("as it was pinned");
    let tool = echo(&client);
    changed(&client).await;
    let error = client.refresh().await.expect_err("it has changed");
    assert!(matches!(error, Error::PinMismatch { .. }), "{error}");
    let told = failure(say(&tool, "two").await);
    assert!(told.contains("says something else"), "{told}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_is_being_closed_ends_though_nobody_waits() {
    for polls in 1.. {
        let client = to("has children").await.expect("connects");
        let tool = echo(&client);
        let told = words(&say(&tool, "x").await.expect("works"));
        let processes: Vec<u64> = serde_json::from_str(&told).expect("JSON");
        let is_over = polled(client.close(), polls).await.is_some();
        until("both have ended", || !processes.iter().any(|id| is_alive(*id))).await;
        assert!(failure(say(&tool, "again").await).contains("could not reach"));
        client.close().await;
        if is_over {
            break;
        }
    }
}

#[tokio::test]
async fn a_call_dropped_after_any_poll_is_cancelled_and_the_next_one_works() {
    let client = to("mute when told").await.expect("connects");
    let tool = echo(&client);
    let count = |word: &str| client.stderr().matches(word).count();
    for polls in 0..6 {
        let call = polled(say(&tool, "hush"), polls);
        let ended = tokio::time::timeout(Duration::from_millis(100), call).await;
        assert!(!matches!(ended, Ok(Some(_))), "it is mute");
        assert_eq!(words(&say(&tool, "well").await.expect("works")), "well");
        // It has heard of all that came before.
        until("each call that came is cancelled", || {
            count("hush") == count("cancelled")
        })
        .await;
    }
    assert!(count("hush") > 1, "some came: {}", client.stderr());
    for polls in 0.. {
        let is_over = polled(say(&tool, "words"), polls).await.is_some();
        assert_eq!(words(&say(&tool, "well").await.expect("works")), "well");
        if is_over {
            break;
        }
    }
}

struct OnDrop(Arc<AtomicU32>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_server_dropped_after_any_poll_ends_its_calls() {
    let most = AtomicU32::new(0);
    for polls in 0..12 {
        let (began, dropped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (started, ended) = (Arc::clone(&began), Arc::clone(&dropped));
        let server = Server::new("ours", "1")
            .answerer("hang", "Never answers.", move |_, _| {
                started.fetch_add(1, Ordering::SeqCst);
                let guard = OnDrop(Arc::clone(&ended));
                async move {
                    std::future::pending::<()>().await;
                    drop(guard);
                    Ok(String::new())
                }
            })
            .policy(AllowAll);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut serving = tokio::spawn(polled(
            server.serve_http(listener, HttpAccess::new(), Cancel::new()),
            polls,
        ));
        let talking = async {
            let http = Http::new(format!("http://{address}/mcp"));
            if let Ok(client) = connect("ours", http).await {
                let call = client.tools()[0].clone();
                let _ = call.call(json!({ "question": "when?" }), &super::cx()).await; // it is cut off
            }
        };
        let hangs = until("it comes as far as the tool", || began.load(Ordering::SeqCst) > 0);
        tokio::select! {
            _ = &mut serving => {} // dropped by itself
            () = talking => {}
            () = hangs => {}
        }
        if !serving.is_finished() {
            serving.abort();
            let _ = serving.await; // it was aborted
        }
        most.fetch_max(began.load(Ordering::SeqCst), Ordering::SeqCst);
        until("its calls have ended", || {
            began.load(Ordering::SeqCst) == dropped.load(Ordering::SeqCst)
        })
        .await;
        let again = tokio::net::TcpStream::connect(address).await;
        assert!(again.is_err(), "nobody listens there any more, {polls} polls");
    }
    assert!(most.into_inner() > 0, "a call came as far as the tool");
}

#[tokio::test]
async fn our_server_on_its_own_pipes_may_be_dropped_after_any_poll() {
    for polls in 1.. {
        let ours = playing("ours").env("PEER_POLLS", polls.to_string());
        let limit = Duration::from_secs(20);
        match connect("ours", ours).connect_timeout(limit).await {
            Err(error) => assert_eq!(error.code(), "transport", "{polls}: {error}"),
            Ok(client) => {
                let answer = echo(&client)
                    .call(json!({ "question": "well" }), &super::cx())
                    .await;
                if let Ok(output) = answer {
                    assert_eq!(words(&output), "well");
                    break;
                }
                until("it says why", || client.stderr().contains("it was dropped")).await;
            }
        }
        assert!(polls < 200, "it never answers");
    }
}
