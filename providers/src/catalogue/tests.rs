use super::{Catalogue, ModelKind};
use stepwell_core::{Cost, ModelInfo, PriceTable, Usage};

fn usage(parts: [u64; 6]) -> Usage {
    let mut usage = Usage::default();
    usage.input_tokens = Some(parts[0]);
    usage.cache_read_tokens = Some(parts[1]);
    usage.cache_write_tokens = Some(parts[2]);
    usage.cache_write_1h_tokens = Some(parts[3]);
    usage.output_tokens = Some(parts[4]);
    usage.reasoning_tokens = Some(parts[5]);
    usage
}

fn micro_usd(vendor: &str, model: &str, day: &str, usage: &Usage) -> Option<u64> {
    let price = Catalogue::built_in().price(vendor, model, day)?;
    price.cost(usage).map(|Cost { micro_usd }| micro_usd)
}

#[test]
fn the_built_in_catalogue_is_whole_and_knows_where_each_price_is_from() {
    let known = Catalogue::built_in();
    for vendor in [
        "anthropic",
        "openai",
        "gemini",
        "xai",
        "mistral",
        "voyage",
        "cohere",
    ] {
        let models = known.models(vendor);
        assert!(models.len() > 5, "{vendor}");
        for entry in models {
            let found = known.entry(vendor, &entry.info.model).expect("found by its id");
            assert_eq!(found, *entry, "an id means itself");
            for price in &entry.prices {
                assert!(
                    !price.source.is_empty() && !price.date.is_empty(),
                    "{}",
                    entry.info.name()
                );
            }
        }
    }
    assert!(known.vendors().count() >= 15);
}

#[test]
fn bills_made_by_hand_agree_at_every_vendors_convention() {
    for (vendor, model, day, parts, expected) in [
        // $2 in, $0.20 read, $2.50 / $4 written, $10 out per million:
        // 1000 x 2 + 5000 x .2 + 300 x 2.5 + 200 x 4 + 400 x 10 + 100 x 10
        (
            "anthropic",
            "claude-sonnet-5",
            "2026-11-21",
            [1_000, 5_000, 300, 200, 400, 100],
            2_000 + 1_000 + 750 + 800 + 4_000 + 1_000,
        ),
        // $0.10 / $0.50, five times as much above 100,000 tokens of prompt; at the mark itself not yet.
        (
            "anthropic",
            "claude-haiku-5-5",
            "2026-11-21",
            [90_000, 10_000, 0, 0, 1_000, 0],
            9_000 + 100 + 500,
        ),
        (
            "anthropic",
            "claude-haiku-5-5",
            "2026-11-21",
            [90_001, 10_000, 0, 0, 1_000, 0],
            // 45,000.5 rounded up with the rest
            45_001 + 500 + 2_500,
        ),
        // $2.50 in, $1.25 read, $10 out: 700 fresh of 1,700 in all, 200 out of which 50 reasoning
        (
            "openai",
            "gpt-4o",
            "2026-11-21",
            [700, 1_000, 0, 0, 150, 50],
            1_750 + 1_250 + 2_000,
        ),
        // The price fell on 2026-08-21: $5 / $30 before, $4 / $20 since.
        (
            "openai",
            "gpt-5.6-sol",
            "2026-08-20",
            [1_000, 0, 0, 0, 100, 0],
            5_000 + 3_000,
        ),
        (
            "openai",
            "gpt-5.6-sol",
            "2026-08-21",
            [1_000, 0, 0, 0, 100, 0],
            4_000 + 2_000,
        ),
        // Above 272,000 tokens: $8 / $30
        (
            "openai",
            "gpt-5.6-sol",
            "2026-11-21",
            [272_001, 0, 0, 0, 100, 0],
            2_176_008 + 3_000,
        ),
        // $1.25 / $0.125 / $10 to 200,000 tokens, $2.50 / $0.25 / $15 above; thoughts cost as output
        (
            "gemini",
            "gemini-2.5-pro",
            "2026-11-21",
            [200_000, 0, 0, 0, 100, 900],
            250_000 + 10_000,
        ),
        (
            "gemini",
            "gemini-2.5-pro",
            "2026-11-21",
            [200_000, 1, 0, 0, 100, 900],
            // 500,000 + 0.25 + 15,000
            515_001,
        ),
        (
            "openai",
            "text-embedding-3-small",
            "2026-11-21",
            [1_000, 0, 0, 0, 0, 0],
            20,
        ),
        ("voyage", "voyage-3-lite", "2026-11-21", [18, 0, 0, 0, 0, 0], 1),
    ] {
        assert_eq!(
            micro_usd(vendor, model, day, &usage(parts)),
            Some(expected),
            "{vendor}/{model} {day} {parts:?}"
        );
    }
    let mut searches = Usage::default();
    searches.searches = Some(3);
    assert_eq!(
        micro_usd("cohere", "rerank-v3.5", "2026-11-21", &searches),
        Some(6_000)
    );
    let mut with_search = usage([1_000, 0, 0, 0, 0, 0]);
    with_search.searches = Some(2);
    assert_eq!(
        micro_usd("anthropic", "claude-sonnet-5", "2026-11-21", &with_search),
        Some(2_000 + 20_000)
    );
}

#[test]
fn dated_names_and_other_names_mean_the_same_model_and_an_unknown_one_has_no_price() {
    let known = Catalogue::built_in();
    for (vendor, name, id) in [
        ("anthropic", "claude-sonnet-5", "claude-sonnet-5"),
        ("anthropic", "Claude-Sonnet-5-20260203", "claude-sonnet-5"),
        ("anthropic", "claude-sonnet-5@20260203", "claude-sonnet-5"),
        ("openai", "gpt-6-sol-2026-09-01", "gpt-6-sol"),
        ("gemini", "gemini-3.5-flash-001", "gemini-3.5-flash"),
    ] {
        let entry = known.entry(vendor, name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(entry.info.model, id);
    }
    let mut info = ModelInfo::new("openai", "gpt-nobody-knows");
    known.describe(&mut info);
    assert_eq!(info, ModelInfo::new("openai", "gpt-nobody-knows"));
}

#[test]
fn a_vendor_of_anothers_models_has_the_others_facts_but_not_its_prices() {
    let known = Catalogue::built_in();
    let home = known.entry("anthropic", "claude-sonnet-5").expect("known");
    let through = known
        .entry("openrouter", "anthropic/claude-sonnet-5:nitro-x")
        .expect("known by its home");
    assert_eq!(through.info.context_window, home.info.context_window);
    assert_eq!(through.info.abilities, home.info.abilities);
    assert_eq!(through.price("2026-11-21"), None);
    assert_eq!(through.info.provider, "openrouter");
}

#[test]
fn a_file_of_the_hosts_own_changes_what_it_names_and_nothing_else() {
    let known = Catalogue::built_in();
    let text = r#"{"vendors":{
        "anthropic":[{"id":"claude-sonnet-5","out":1000,"cannot":"a","price":{"input":1.25}}],
        "acme":[{"id":"m","names":["m-*"],"kind":"embedding","width":8,"prices":[
            {"from":"2026-06-01","input":2},{"input":1}]}]}}"#;
    let ours = known.with_json(text, "ours").expect("reads");
    let (before, after) = (
        known.entry("anthropic", "claude-sonnet-5").expect("known"),
        ours.entry("anthropic", "claude-sonnet-5").expect("known"),
    );
    assert_eq!(after.info.max_output_tokens, Some(1_000));
    assert_eq!(after.info.context_window, before.info.context_window);
    assert_eq!(after.info.abilities.audio, Some(false));
    assert_eq!(after.info.abilities.tools, before.info.abilities.tools);
    let (before, after) = (
        before.price("2026-11-21").expect("priced"),
        after.price("2026-11-21").expect("priced"),
    );
    assert_eq!((after.input, after.output), (Some(1_250_000), before.output));
    assert!(after.source.ends_with("changed by ours"));
    let entry = ours.entry("acme", "m-large").expect("a new vendor, by a pattern");
    assert_eq!((entry.kind, entry.dimension), (ModelKind::Embedding, Some(8)));
    let input = |day: &str| entry.price(day).and_then(|price| price.input);
    assert_eq!(input("2026-05-31"), Some(1_000_000));
    assert_eq!(input("2026-06-01"), Some(2_000_000));

    let folder = std::env::temp_dir().join(format!("stepwell-models-{}", std::process::id()));
    std::fs::write(&folder, text).expect("writes");
    let read = known.with_file(&folder).expect("reads");
    std::fs::remove_file(&folder).expect("removes");
    assert!(read.entry("acme", "m").is_some());
}

#[test]
fn a_file_with_a_slip_is_told_and_not_passed_over() {
    for text in [
        "{",
        r#"{"vendors":{"a":[{"id":"m","windw":1}]}}"#,
        r#"{"vendors":{"a":[{"id":"m","can":"x"}]}}"#,
        r#"{"vendors":{"a":[{"id":"m","prices":[{"input":-1}]}]}}"#,
        r#"{"vendors":{"a":[{"id":"m","prices":[{"from":"May 2026","input":1}]}]}}"#,
    ] {
        let error = Catalogue::built_in().with_json(text, "ours").expect_err(text);
        assert_eq!(error.code(), "invalid_input");
    }
    let error = Catalogue::built_in().with_file("no such file").expect_err("none");
    assert_eq!(error.code(), "io");
}

#[test]
fn what_the_host_said_of_a_model_goes_before_the_catalogue() {
    let mut info = ModelInfo::new("anthropic", "claude-sonnet-5");
    info.context_window = Some(5);
    info.abilities.tools = Some(false);
    Catalogue::built_in().describe(&mut info);
    assert_eq!(info.context_window, Some(5));
    assert_eq!(info.abilities.tools, Some(false));
    assert_eq!(info.abilities.images, Some(true));
    assert!(info.price.is_some() && info.max_output_tokens.is_some());
}
