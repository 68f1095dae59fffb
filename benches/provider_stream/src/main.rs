//! What a streamed answer and a plain call cost beside their peers, against one local server in a process of its own.
//!
//! The floor is reqwest with the body split into events and each parsed into a `serde_json::Value`. CPU is that of
//! the whole client process on one thread, after a warm-up; the peers take turns, so that other work on the machine
//! hits all alike, and medians are told.

mod client;
mod memory;
mod server;

use client::{Client, Kind};
use cpu_time::ProcessTime;
use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use stepwell_core::ChatModel;
use stepwell_providers::OpenAi;

const ROUNDS: usize = 15;
const CALLS: usize = 2_000;
const STREAMS: usize = 200;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "serve") {
        return server::run();
    }
    let mut server = Command::new(std::env::current_exe().expect("this program"))
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let port = server::port_of(&mut server);
    let _stop = Stop(server);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            new_models().await;
            stream_cpu(port).await;
            call_overhead(port).await;
            side_by_side(port).await;
            idle_memory(port).await;
        });
}

struct Stop(Child);

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU until the first call of a model is refused at a port where nobody listens, over that of raw reqwest with
/// certificates of its own. The first model of a process reads the machine's certificates, the others do not.
async fn new_models() {
    async fn ours() -> f64 {
        let begun = ProcessTime::now();
        let model = OpenAi::new("gpt-4o-mini").api_key("x").base_url("https://127.0.0.1:1/v1").build().expect("builds");
        model.chat("hi".into()).await.expect_err("nobody is there");
        begun.elapsed().as_secs_f64() * 1e6
    }
    async fn raw() -> f64 {
        let begun = ProcessTime::now();
        let client = reqwest::Client::new();
        client.post("https://127.0.0.1:1/v1").body("hi").send().await.expect_err("nobody is there");
        begun.elapsed().as_secs_f64() * 1e6
    }
    let first = ours().await;
    let (mut others, mut peers) = (Vec::new(), Vec::new());
    raw().await;
    for _ in 0..ROUNDS {
        others.push(ours().await);
        peers.push(raw().await);
    }
    let (other, peer) = (median(&mut others), median(&mut peers));
    println!("# a model and its first call: the first {first:.0} us of CPU, a later one {other:.0} us, raw reqwest {peer:.0} us");
    println!(
        "claim later_model_first_call value={other:.0} unit=us-cpu must=<=1000 peer=reqwest:{peer:.0} ratio={:.3}",
        other / peer
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU per 1,000 chunks of each client, told over the floor.
async fn stream_cpu(port: u16) {
    let kinds = [Kind::Floor, Kind::Stepwell, Kind::StepwellAnthropic, Kind::AsyncOpenAi, Kind::GenAi];
    let clients: Vec<Client> = kinds.iter().map(|kind| Client::new(*kind, port, "/fast")).collect();
    let mut samples = vec![Vec::new(); kinds.len()];
    for round in 0..=ROUNDS {
        for (client, samples) in clients.iter().zip(&mut samples) {
            let begun = ProcessTime::now();
            let seen = client.stream().await;
            assert!(seen >= server::CHUNKS, "{seen} events of {}", server::CHUNKS);
            if round > 0 {
                samples.push(begun.elapsed().as_secs_f64() * 1e6 / server::CHUNKS as f64);
            }
        }
    }
    let cost: Vec<f64> = samples.iter_mut().map(|samples| median(samples)).collect();
    let floor = cost[0];
    println!("# cpu-ms per 1,000 chunks: floor {floor:.3}, stepwell {:.3}, anthropic wire {:.3}, async-openai {:.3}, genai {:.3}", cost[1], cost[2], cost[3], cost[4]);
    println!(
        "claim stream_cpu_over_floor value={:.3} unit=x must=<=0.6 peer=async-openai:{:.3} ratio={:.3}",
        cost[1] / floor, cost[3] / floor, cost[1] / cost[3]
    );
    println!(
        "claim stream_cpu_beside_genai value={:.3} unit=x must=<=0.6 peer=genai:{:.3} ratio={:.3}",
        cost[1] / floor, cost[4] / floor, cost[1] / cost[4]
    );
}

/// The median of a short call over that of raw reqwest, which reads the same bytes and looks at none.
async fn call_overhead(port: u16) {
    let ours = Client::new(Kind::Stepwell, port, "/short");
    let floor = Client::new(Kind::Floor, port, "/short");
    let peer = Client::new(Kind::AsyncOpenAi, port, "/short");
    let mut times = [const { Vec::new() }; 3];
    for call in 0..CALLS + 50 {
        for (client, times) in [&ours, &floor, &peer].into_iter().zip(&mut times) {
            let begun = Instant::now();
            client.call().await;
            if call >= 50 {
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    let [ours, floor, peer] = times.each_mut().map(|times| median(times));
    println!("# one call, p50: stepwell {ours:.1} us, reqwest {floor:.1} us, async-openai {peer:.1} us");
    println!(
        "claim call_overhead_p50 value={:.1} unit=us must=<=20 peer=async-openai:{:.1} ratio={:.2}",
        ours - floor, peer - floor, (ours - floor) / (peer - floor)
    );
}

/// 200 streams at once on one thread, each with an event every 20 ms: how late the latest comes.
async fn side_by_side(port: u16) {
    let client = Client::new(Kind::Stepwell, port, "/slow");
    let begun = ProcessTime::now();
    let gaps = futures::future::join_all((0..STREAMS).map(|_| client.longest_gap())).await;
    let cpu = begun.elapsed().as_secs_f64();
    let worst = gaps.iter().copied().max().unwrap_or_default();
    println!("# {STREAMS} streams at once took {cpu:.2} s of CPU");
    println!(
        "claim longest_gap_of_200_streams value={:.1} unit=ms must=<=100 peer=pace-of-the-server:{} ratio={:.2}",
        worst.as_secs_f64() * 1e3, server::PACE_MS, worst.as_secs_f64() * 1e3 / server::PACE_MS as f64
    );
}

/// Heap bytes held by a stream that waits for its next event.
async fn idle_memory(port: u16) {
    let ours = Client::new(Kind::Stepwell, port, "/idle");
    let peer = Client::new(Kind::AsyncOpenAi, port, "/idle");
    let mut kib = Vec::new();
    for client in [&ours, &peer] {
        drop(client.open().await); // the client itself is not counted
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = memory::held();
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            open.push(client.open().await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        for stream in &mut open {
            // What has come is read; then somebody waits for more.
            while futures::poll!(futures::StreamExt::next(stream)).is_ready() {}
        }
        kib.push((memory::held() - before) as f64 / STREAMS as f64 / 1024.0);
    }
    println!(
        "claim idle_stream_memory value={:.1} unit=KiB must=<=32 peer=async-openai:{:.1} ratio={:.2}",
        kib[0], kib[1], kib[0] / kib[1]
    );
}
