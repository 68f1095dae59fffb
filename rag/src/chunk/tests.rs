//! Documents cut in every style: nothing is lost, nothing is too long, and headings stay with their section.

use super::*;
use proptest::prelude::*;
use stepwell_core::{Heading, HeuristicTokens};

fn chunker(max_tokens: usize, overlap: usize) -> Chunker {
    let options = ChunkOptions::new()
        .with_max_tokens(max_tokens)
        .with_overlap_tokens(overlap);
    Chunker::new(options, Arc::new(HeuristicTokens)).expect("room")
}

fn texts(chunks: &[Chunk]) -> Vec<&str> {
    chunks.iter().map(|chunk| chunk.text.as_str()).collect()
}

#[test]
fn a_short_text_is_one_chunk_and_an_empty_one_is_none() {
    let chunker = chunker(256, 32);
    assert_eq!(
        texts(&chunker.chunk(&Document::new("a", " One. Two.\n")).expect("cut")),
        [" One. Two.\n"]
    );
    assert!(chunker.chunk(&Document::new("a", "")).expect("cut").is_empty());
}

#[test]
fn it_breaks_at_blank_lines_then_sentences_then_words() {
    let document = Document::new(
        "a",
        "One two three four five six.\n\nSeven eight nine ten eleven. Twelve is the next.\n\nEnd.",
    );
    let chunks = chunker(12, 0).chunk(&document).expect("cut");
    assert_eq!(
        texts(&chunks),
        [
            "One two three four five six.\n\n",
            "Seven eight nine ten eleven. ",
            "Twelve is the next.\n\nEnd."
        ]
    );
    let long = "word ".repeat(30);
    for chunk in chunker(12, 0).chunk(&Document::new("a", long)).expect("cut") {
        assert_eq!(chunk.text, "word ".repeat(10), "ten tokens, cut at spaces");
    }
}

#[test]
fn a_heading_starts_a_chunk_and_is_never_its_last_line() {
    let text = "# One\n\nThe first part has some words in it, more than a few.\n\n# Two\n\n## Inner\n\nThe second part has words as well.\n";
    let mut document = Document::new("a", text);
    for (level, line) in [(1, "# One"), (1, "# Two"), (2, "## Inner")] {
        let at = text.find(line).expect("there");
        document.headings.push(Heading::new(
            level,
            line.trim_start_matches(['#', ' ']),
            at..at + line.len(),
        ));
    }
    for max_tokens in 10..60 {
        let chunks = chunker(max_tokens, 0).chunk(&document).expect("cut");
        for chunk in &chunks {
            let last = chunk.text.trim_end().lines().last().unwrap_or_default();
            assert!(!last.starts_with('#'), "{max_tokens}: {:?}", texts(&chunks));
        }
        let two = chunks
            .iter()
            .find(|chunk| chunk.text.contains("# Two"))
            .expect("covered");
        if max_tokens == 24 {
            assert!(
                two.text.starts_with("# Two"),
                "{max_tokens}: {:?}",
                texts(&chunks)
            );
            assert_eq!(two.headings, ["Two"]);
        }
    }
}

#[test]
fn a_chunk_repeats_the_last_sentence_before_it() {
    let document = Document::new(
        "a",
        "Alpha beta gamma delta. Short one. Another sentence follows here now. Last words stand here.",
    );
    let chunks = chunker(12, 5).chunk(&document).expect("cut");
    assert_eq!(chunks[0].text, "Alpha beta gamma delta. Short one. ");
    assert!(
        chunks[1].text.starts_with("Short one. Another"),
        "{:?}",
        texts(&chunks)
    );
}

#[test]
fn options_that_leave_no_room_are_refused() {
    for options in [
        ChunkOptions::new().with_max_tokens(9),
        ChunkOptions::new().with_header_tokens(250),
        ChunkOptions::new().with_overlap_tokens(200),
        ChunkOptions::new().with_max_bytes(10),
    ] {
        let error = Chunker::new(options, Arc::new(HeuristicTokens)).expect_err("no room");
        assert_eq!(error.code(), "invalid_input");
    }
}

#[test]
fn thirty_megabytes_without_a_space_are_cut_by_bytes() {
    #[derive(Debug)]
    struct OneToken;
    impl TokenCounter for OneToken {
        fn spans(&self, text: &str) -> Vec<Range<usize>> {
            std::iter::once(0..text.len()).collect()
        }
    }
    let chunker = Chunker::new(ChunkOptions::default(), Arc::new(OneToken)).expect("room");
    let document = Document::new("a", "ä".repeat(15 << 20));
    let chunks = chunker.chunk(&document).expect("cut");
    assert_eq!(chunks.len(), (30 << 20) / (8 << 10));
}

fn styled(style: ChunkStyle, max_tokens: usize, overlap: usize) -> Chunker {
    let options = ChunkOptions::new()
        .with_style(style)
        .with_max_tokens(max_tokens)
        .with_overlap_tokens(overlap);
    Chunker::new(options, Arc::new(HeuristicTokens)).expect("room")
}

#[test]
fn each_style_cuts_at_its_own_places() {
    let text =
        "# One\n\nAlpha beta gamma. Delta eta\n\n# Two\n\ntheta. Iota kappa lambda mu nu xi omicron. Pi.";
    let mut document = Document::new("a", text);
    for line in ["# One", "# Two"] {
        let at = text.find(line).expect("there");
        document
            .headings
            .push(Heading::new(1, &line[2..], at..at + line.len()));
    }
    let cut = |style| {
        let chunks = styled(style, 14, 0).chunk(&document).expect("cut");
        chunks.into_iter().map(|chunk| chunk.text).collect::<Vec<_>>()
    };
    let structure = cut(ChunkStyle::Structure);
    assert!(structure[1].starts_with("# Two"), "{structure:?}");
    let sentences = cut(ChunkStyle::Sentences);
    assert!(
        sentences[0].ends_with("# Two\n\n"),
        "a heading is words like others: {sentences:?}"
    );
    assert!(sentences[1].ends_with("omicron. "), "{sentences:?}");
    let tokens = cut(ChunkStyle::Tokens);
    for chunk in &tokens[..tokens.len() - 1] {
        assert_eq!(HeuristicTokens.count(chunk), 12, "{tokens:?}");
    }
    // Without vectors a chunker by meaning cuts by structure.
    assert_eq!(cut(ChunkStyle::Meaning { percentile: 90 }), structure);
    let repeated = styled(ChunkStyle::Tokens, 14, 3).chunk(&document).expect("cut");
    for pair in repeated.windows(2) {
        let common = &text[pair[1].span.start..pair[0].span.end];
        assert_eq!(HeuristicTokens.count(common), 3, "{:?}", texts(&repeated));
    }
}

#[test]
fn a_chunk_by_meaning_ends_where_the_subject_does() {
    let birds = "Herons fish at dawn in the shallow water. They stand still and wait for frogs. ";
    let banks = "Banks lend money to those who build. Interest is paid at the end of each year. ";
    let document = Document::new("a", format!("{birds}{banks}"));
    let chunker = styled(ChunkStyle::Meaning { percentile: 90 }, 60, 10);
    let probes = chunker.probes(&document);
    let vectors: Vec<Vec<f32>> = probes
        .iter()
        .map(|probe| {
            let share = (birds.len().clamp(probe.start, probe.end) - probe.start) as f32 / probe.len() as f32;
            vec![share, 1.0 - share]
        })
        .collect();
    let chunks = chunker.chunk_by(&document, &vectors).expect("cut");
    assert_eq!(texts(&chunks), [birds, banks]);
    assert_eq!(
        chunker.chunk(&document).expect("cut").len(),
        1,
        "it would fit one chunk"
    );
}

#[test]
fn a_header_is_embedded_above_the_words_and_never_longer_than_its_room() {
    let mut document =
        Document::new("a", "# Runs\n\nAll about runs.").with_title("The guide to everything here");
    document.headings.push(Heading::new(1, "Runs", 0..6));
    let mut seen = Vec::new();
    for room in [0, 1, 4, 40] {
        let options = ChunkOptions::new().with_header_tokens(room);
        let chunker = Chunker::new(options, Arc::new(HeuristicTokens)).expect("room");
        let chunks = chunker.chunk(&document).expect("cut");
        assert_eq!(chunks[0].text, document.text, "it is not shown");
        let embedded = chunker.embedded(&chunks[0]).into_owned();
        let header = embedded.strip_suffix(&document.text).expect("the words end it");
        assert!(HeuristicTokens.count(header) <= room, "{room}: {header}");
        seen.push(header.to_owned());
    }
    assert_eq!(
        seen,
        ["", "Runs\n", "Runs\n", "The guide to everything here › Runs\n"]
    );
}

#[test]
fn every_setting_is_in_the_fingerprint_and_the_default_keeps_its_own() {
    let fingerprint = |options| {
        let chunker = Chunker::new(options, Arc::new(HeuristicTokens)).expect("room");
        chunker.fingerprint()
    };
    assert_eq!(fingerprint(ChunkOptions::new()), "chunks/1:256:2:0:32:8192");
    let mut all: Vec<String> = [
        ChunkOptions::new(),
        ChunkOptions::new().with_style(ChunkStyle::Sentences),
        ChunkOptions::new().with_style(ChunkStyle::Tokens),
        ChunkOptions::new().with_style(ChunkStyle::Meaning { percentile: 90 }),
        ChunkOptions::new().with_style(ChunkStyle::Meaning { percentile: 95 }),
        ChunkOptions::new().with_header_tokens(16),
    ]
    .map(fingerprint)
    .into();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
}

/// Pieces that make trouble: no spaces, only spaces, many bytes a character, marks that join.
fn adversarial() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,9}",
        "[a-z]{40,80}",
        Just(" ".to_owned()),
        Just("\n".to_owned()),
        Just("\n\n".to_owned()),
        Just("\n \n\t".to_owned()),
        Just(". ".to_owned()),
        Just("! \u{200B}?".to_owned()),
        Just("漢字かな交じり文。".to_owned()),
        Just("👩‍👩‍👧e\u{301}\u{302}".to_owned()),
        Just("\u{2028}\u{3000}".to_owned()),
        " {50,120}",
        "\\PC{0,12}",
    ];
    prop::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn every_byte_is_covered_in_order_within_the_budget(
        text in adversarial(),
        max_tokens in 10_usize..60,
        overlap in 0_usize..20,
        max_bytes in prop_oneof![Just(64_usize), Just(8192)],
        lines in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        style in prop_oneof![
            Just(ChunkStyle::Structure), Just(ChunkStyle::Sentences), Just(ChunkStyle::Tokens),
            (0..=100_u8).prop_map(|percentile| ChunkStyle::Meaning { percentile }),
        ],
        seed: u64,
    ) {
        let budget = max_tokens - 2;
        let options = ChunkOptions::new().with_style(style).with_max_tokens(max_tokens).with_overlap_tokens(overlap.min(budget / 2)).with_max_bytes(max_bytes);
        let chunker = Chunker::new(options, Arc::new(HeuristicTokens)).expect("room");
        let mut document = Document::new("a", text.clone());
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut picked: Vec<usize> = lines.iter().map(|index| *index.get(&starts)).collect();
        picked.sort_unstable();
        picked.dedup();
        for start in picked {
            let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
            document.headings.push(Heading::new(1, "h", start..end));
        }
        // Any vectors will do: the meaning may turn anywhere.
        let probes = chunker.probes(&document);
        prop_assert!(probes.iter().all(|probe| text.get(probe.clone()).is_some()));
        let mut state = seed | 1;
        let vectors: Vec<Vec<f32>> = probes.iter().map(|_| (0..4).map(|_| {
            state ^= state << 13; state ^= state >> 7; state ^= state << 17;
            (state % 2_001) as f32 / 1_000.0 - 1.0
        }).collect()).collect();
        let chunks = chunker.chunk_by(&document, &vectors).expect("cut");
        let mut covered = 0;
        let mut before: Option<Range<usize>> = None;
        for (number, chunk) in chunks.iter().enumerate() {
            prop_assert_eq!(chunk.number as usize, number);
            prop_assert_eq!(&text[chunk.span.clone()], &chunk.text);
            prop_assert!(chunk.span.start <= covered, "a gap before {}", chunk.span.start);
            if let Some(before) = before {
                prop_assert!(chunk.span.start > before.start && chunk.span.end > before.end);
            }
            prop_assert!(HeuristicTokens.count(&chunk.text) <= budget, "{} tokens", HeuristicTokens.count(&chunk.text));
            prop_assert!(chunk.text.len() <= max_bytes);
            covered = chunk.span.end;
            before = Some(chunk.span.clone());
        }
        prop_assert_eq!(covered, text.len());
        let again = chunker.chunk_by(&document, &vectors).expect("cut");
        prop_assert_eq!(chunks, again);
    }
}
