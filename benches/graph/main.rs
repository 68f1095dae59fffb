//! What the graph runner costs beside its peers: a bare step, steps with journals, steps of a long conversation, a
//! thousand Sends, a paused run, an agent's turn.
//!
//! CPU time of the whole process, all threads, medians of interleaved rounds. The peers (langgraph from PyPI,
//! adk-graph as it is released) do the same work in the same run as processes of their own: `benches/peers/graph_langgraph.py`
//! and `benches/peers/graph_adk`.

mod ours;

use std::{collections::HashMap, process::Command};

/// Figures of one peer by row; empty where it is not there.
fn peer(name: &str, command: Option<Command>) -> HashMap<String, f64> {
    let Some(mut command) = command else {
        println!("# {name} is not measured: run this bench through benches/run, which installs it");
        return HashMap::new();
    };
    let output = command.output().expect("the peer starts");
    if !output.status.success() {
        println!("# {name} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let (row, value) = line.split_once(' ')?;
            Some((row.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

fn claim(name: &str, value: f64, unit: &str, must: f64, peers: &[(&str, Option<&f64>)]) {
    let mut told = false;
    for (peer, theirs) in peers {
        if let Some(theirs) = theirs {
            told = true;
            println!(
                "claim {name} value={value:.3} unit={unit} must=<={must} peer={peer}:{theirs:.3} ratio={:.4}",
                value / **theirs
            );
        }
    }
    if !told {
        println!("claim {name} value={value:.3} unit={unit} must=<={must} peer=none:0 ratio=0");
    }
}

fn main() {
    let langgraph = peer(
        "langgraph",
        std::env::var_os("STEPWELL_BENCH_PYTHON").map(|python| {
            let mut command = Command::new(python);
            command.arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/benches/peers/graph_langgraph.py"
            ));
            command
        }),
    );
    let adk = peer(
        "adk-graph",
        std::env::var_os("STEPWELL_BENCH_ADK").map(Command::new),
    );
    let ours = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(ours::rows());
    let both = |row: &str| [("adk-graph", adk.get(row)), ("langgraph", langgraph.get(row))];
    let own = |row: &str| ours[row];
    claim("bare_step", own("step"), "cpu-us", 1.0, &both("step"));
    claim(
        "step_with_memory_journal",
        own("step_memory"),
        "cpu-us",
        1.5,
        &both("step_memory"),
    );
    claim(
        "step_with_sqlite",
        own("step_sqlite"),
        "cpu-us",
        30.0,
        &both("step_sqlite"),
    );
    claim("step_at_1000_over_10", own("growth"), "x", 1.2, &both("growth"));
    claim(
        "step_at_1000_over_10_sqlite",
        own("growth_sqlite"),
        "x",
        1.2,
        &both("growth_sqlite"),
    );
    claim("disk_per_byte_of_content", own("disk"), "x", 3.0, &both("disk"));
    claim("thousand_sends", own("sends"), "cpu-ms", 2.0, &both("sends"));
    claim("paused_run", own("paused"), "KiB", 2.0, &both("paused"));
    claim("agent_turn", own("turn"), "cpu-us", 25.0, &both("turn"));
}
