//! Tokens and money of Chat Completions, whoever counts them.

use super::wire;
use stepwell_core::{Cost, Usage};

/// The vendor's totals in disjoint parts.
pub(super) fn usage_of(wire: &wire::Usage, hides_reasoning: bool) -> Usage {
    let prompt = wire.prompt_tokens_details.unwrap_or_default();
    let sum = wire
        .prompt_tokens
        .zip(wire.completion_tokens)
        .map(|(input, output)| input.saturating_add(output));
    // What the total counts beside input and output.
    let beside = wire
        .total_tokens
        .zip(sum)
        .map(|(total, sum)| total.saturating_sub(sum))
        .filter(|beside| *beside > 0);
    let mut usage = Usage::default();
    // Sound stands beside the input at Mistral, inside it elsewhere.
    let sound = beside.filter(|beside| prompt.audio_tokens == Some(*beside));
    let input = wire
        .prompt_tokens
        .map(|input| input.saturating_add(sound.unwrap_or(0)));
    // Grok behind Azure counts a prompt of its own into what was cached.
    let cached = prompt
        .cached_tokens
        .or(wire.prompt_cache_hit_tokens)
        .or(wire.cache_read_input_tokens);
    usage.cache_read_tokens = cached.map(|cached| cached.min(input.unwrap_or(cached)));
    usage.cache_write_tokens = prompt.cache_write_tokens;
    usage.input_tokens = input.map(|total| {
        total
            .saturating_sub(usage.cache_read_tokens.unwrap_or(0))
            .saturating_sub(prompt.cache_write_tokens.unwrap_or(0))
    });
    let told = wire
        .completion_tokens_details
        .and_then(|details| details.reasoning_tokens)
        .or(wire.reasoning_tokens);
    usage.reasoning_tokens = told.or(beside.filter(|_| hides_reasoning));
    // Most count reasoning into the output; where the total says so, it stands beside it.
    let is_beside = beside.is_some() && beside == usage.reasoning_tokens;
    usage.output_tokens = wire.completion_tokens.map(|total| {
        let within = usage.reasoning_tokens.filter(|_| !is_beside);
        total.saturating_sub(within.unwrap_or(0))
    });
    usage
}

/// What the vendor says the call cost.
pub(super) fn cost_of(wire: &wire::Usage) -> Option<Cost> {
    let ticks = wire.cost_in_usd_ticks.filter(|ticks| *ticks > 0);
    match (wire.cost.and_then(wire::Money::usd), ticks) {
        (Some(usd), _) => Cost::from_usd(usd),
        // A tick is 10^-10 dollar.
        (None, Some(ticks)) => Cost::from_pico_usd(u128::from(ticks) * 100),
        (None, None) => None,
    }
}
