#!/usr/bin/env python3
"""Makes `models.json`, the model catalogue that is built into the crate.

    pip download --no-deps genai-prices litellm     (both MIT; see LICENSES.md beside this file)
    python3 models.py GENAI_PRICES.whl LITELLM.whl > models.json

Prices come from genai-prices: it has long-prompt tiers, first days and names that mean the same model. Windows,
longest answers, abilities and widths of vectors come from litellm's table, and so do prices of models that
genai-prices does not have. What neither has (widths of vectors, mostly) stands in OWN below with its page.
Nothing is guessed: a figure that nobody publishes is left out.

One line per model: id, other names (`*` at an end stands for any rest), kind, facts, prices in US dollars (tokens
per million, searches and requests per thousand), `from` = letters of the tables the row is from. Sorted, so that a
diff shows what changed.
"""

import datetime
import io
import json
import re
import sys
import types
import zipfile
from decimal import Decimal
from pathlib import PurePosixPath

# Ours -> theirs in genai-prices, and theirs in litellm (name, prefix of the key).
VENDORS = {
    "anthropic": ("anthropic", [("anthropic", "")]),
    "azure": ("azure", [("azure", "azure/"), ("azure_ai", "azure_ai/")]),
    "cerebras": ("cerebras", [("cerebras", "cerebras/")]),
    "cohere": ("cohere", [("cohere", "cohere/"), ("cohere_chat", ""), ("cohere", "")]),
    "deepseek": ("deepseek", [("deepseek", "deepseek/")]),
    "doubleword": ("doubleword", []),
    "gemini": ("google", [("gemini", "gemini/")]),
    "groq": ("groq", [("groq", "groq/")]),
    "mistral": ("mistral", [("mistral", "mistral/")]),
    "ollama": (None, []),
    "openai": ("openai", [("openai", "")]),
    "openrouter": ("openrouter", [("openrouter", "openrouter/")]),
    "perplexity": ("perplexity", [("perplexity", "perplexity/")]),
    "together": ("together", [("together_ai", "together_ai/")]),
    "voyage": ("voyageai", [("voyage", "voyage/")]),
    "xai": ("x-ai", [("xai", "xai/")]),
}
KINDS = {"chat": "chat", "responses": "chat", "embedding": "embedding", "rerank": "rerank"}
# What is no chat, embedding or rerank model by its name, where the table does not say.
OTHER = re.compile(
    r"whisper|tts|dall-e|gpt-image|moderation|transcribe|realtime|imagen|veo-|sora|lyria|-image|image-|speech"
    r"|ocr|guard|audio-preview|flux|stable-diffusion|live-|voxtral|orpheus|computer-use|babbage|davinci|translate",
    re.I,
)
ABILITIES = [
    ("t", "supports_function_calling"),
    ("i", "supports_vision"),
    ("d", "supports_pdf_input"),
    ("a", "supports_audio_input"),
    ("r", "supports_reasoning"),
    ("s", "supports_response_schema"),
]
PRICES = [
    ("input", "input_mtok"),
    ("cache_read", "cache_read_mtok"),
    ("cache_write", "cache_write_mtok"),
    ("cache_write_1h", "cache_write_1h_mtok"),
    ("output", "output_mtok"),
    ("reasoning", "output_reasoning_mtok"),
]
VOYAGE = "https://docs.voyageai.com/docs/embeddings"
MISTRAL = "https://docs.mistral.ai/capabilities/embeddings"
COHERE = "https://docs.cohere.com/docs/cohere-embed"
OLLAMA = "https://ollama.com/library"
# (vendor, model): (width, longest input, page). Widths are the vendor's default.
OWN = {
    ("voyage", "voyage-2"): (1024, None, VOYAGE),
    ("voyage", "voyage-3"): (1024, None, VOYAGE),
    ("voyage", "voyage-3-large"): (1024, None, VOYAGE),
    ("voyage", "voyage-3-lite"): (512, None, VOYAGE),
    ("voyage", "voyage-3.5"): (1024, None, VOYAGE),
    ("voyage", "voyage-3.5-lite"): (1024, None, VOYAGE),
    ("voyage", "voyage-code-2"): (1536, None, VOYAGE),
    ("voyage", "voyage-code-3"): (1024, None, VOYAGE),
    ("voyage", "voyage-finance-2"): (1024, None, VOYAGE),
    ("voyage", "voyage-large-2"): (1536, None, VOYAGE),
    ("voyage", "voyage-law-2"): (1024, None, VOYAGE),
    ("mistral", "mistral-embed"): (1024, None, MISTRAL),
    ("mistral", "codestral-embed"): (1536, None, MISTRAL),
    ("cohere", "embed-english-v3.0"): (1024, None, COHERE),
    ("cohere", "embed-english-light-v3.0"): (384, None, COHERE),
    ("cohere", "embed-multilingual-v3.0"): (1024, None, COHERE),
    ("cohere", "embed-multilingual-light-v3.0"): (384, None, COHERE),
    ("azure", "text-embedding-3-large"): (3072, None, None),
    ("azure", "text-embedding-3-small"): (1536, None, None),
    ("azure", "text-embedding-ada-002"): (1536, None, None),
    ("openrouter", "openai/text-embedding-3-large"): (3072, 8191, None),
    ("openrouter", "openai/text-embedding-3-small"): (1536, 8191, None),
    ("openrouter", "openai/text-embedding-ada-002"): (1536, 8191, None),
    ("openrouter", "mistralai/mistral-embed-2312"): (1024, 8192, None),
    ("openrouter", "google/gemini-embedding-001"): (3072, 2048, None),
    ("doubleword", "Qwen/Qwen3-Embedding-8B"): (4096, 32768, "https://huggingface.co/Qwen/Qwen3-Embedding-8B"),
    ("ollama", "nomic-embed-text"): (768, 2048, OLLAMA + "/nomic-embed-text"),
    ("ollama", "mxbai-embed-large"): (1024, 512, OLLAMA + "/mxbai-embed-large"),
    ("ollama", "all-minilm"): (384, 256, OLLAMA + "/all-minilm"),
    ("ollama", "bge-m3"): (1024, 8192, OLLAMA + "/bge-m3"),
    ("ollama", "embeddinggemma"): (768, 2048, OLLAMA + "/embeddinggemma"),
    ("ollama", "snowflake-arctic-embed2"): (1024, 8192, OLLAMA + "/snowflake-arctic-embed2"),
    ("ollama", "qwen3-embedding:0.6b"): (1024, 32768, OLLAMA + "/qwen3-embedding"),
    ("ollama", "qwen3-embedding:4b"): (2560, 32768, OLLAMA + "/qwen3-embedding"),
    ("ollama", "qwen3-embedding:8b"): (4096, 32768, OLLAMA + "/qwen3-embedding"),
}


def number(value):
    """A decimal as the shortest JSON number; millionths of a dollar are the finest there is."""
    value = round(Decimal(str(value)), 6).normalize()
    return int(value) if value == value.to_integral_value() else float(value)


def genai_providers(wheel):
    """The table of genai-prices, imported from the wheel without its HTTP client."""

    class Absent(types.ModuleType):
        def __getattr__(self, name):
            return type(name, (), {})

    sys.modules["httpx2"] = Absent("httpx2")
    sys.path.insert(0, wheel)
    from genai_prices.data import providers  # noqa: PLC0415

    return {provider.id: provider for provider in providers}


def names_of(match):
    """A matcher as plain names; a pattern of dates is left out, the catalogue knows dated names by itself."""
    kind = type(match).__name__
    if kind == "ClauseEquals":
        return [match.equals]
    if kind == "ClauseStartsWith":
        return [match.starts_with + "*"]
    if kind == "ClauseEndsWith":
        return ["*" + match.ends_with]
    if kind == "ClauseContains":
        return ["*" + match.contains + "*"]
    if kind == "ClauseOr":
        return [name for clause in match.or_ for name in names_of(clause)]
    if kind == "ClauseAnd":
        # In this table it is always a beginning and "no speech model", and those are left out anyway.
        return [name for clause in match.and_ for name in names_of(clause)]
    return []


def price_row(prices, first_day):
    row = {}
    if first_day:
        row["from"] = first_day
    starts = set()
    for ours, theirs in PRICES:
        value = getattr(prices, theirs)
        if value is None:
            continue
        if hasattr(value, "base"):
            row[ours] = number(value.base)
            starts.update(tier.start for tier in value.tiers)
        else:
            row[ours] = number(value)
    for ours, theirs in [("searches", "web_searches_kcount"), ("requests", "requests_kcount")]:
        value = getattr(prices, theirs)
        if value is not None and not hasattr(value, "base"):
            row[ours] = number(value)
    tiers = []
    for start in sorted(starts):
        tier = {"above": start}
        for ours, theirs in PRICES:
            value = getattr(prices, theirs)
            if hasattr(value, "base"):
                reached = [tier_.price for tier_ in value.tiers if tier_.start <= start]
                if reached:
                    tier[ours] = number(reached[-1])
        tiers.append(tier)
    if tiers:
        row["tiers"] = tiers
    return row if set(row) - {"from"} else None


def price_rows(model):
    if not isinstance(model.prices, list):
        row = price_row(model.prices, None)
        return [row] if row else []
    rows = []
    for conditional in model.prices:
        constraint = conditional.constraint
        if type(constraint).__name__ == "TimeOfDateConstraint":
            continue  # a discount by the hour: the day's price is the safe one
        day = constraint.start_date.isoformat() if constraint else None
        row = price_row(conditional.prices, day)
        if row:
            rows.append(row)
    return sorted(rows, key=lambda row: row.get("from", ""))


def litellm_price(entry):
    def per_million(key):
        value = entry.get(key)
        return None if value is None else number(Decimal(str(value)) * 1_000_000)

    row = {
        "input": per_million("input_cost_per_token"),
        "cache_read": per_million("cache_read_input_token_cost"),
        "cache_write": per_million("cache_creation_input_token_cost"),
        "cache_write_1h": per_million("cache_creation_input_token_cost_above_1hr"),
        "output": per_million("output_cost_per_token"),
        "reasoning": per_million("output_cost_per_reasoning_token"),
    }
    if entry.get("mode") in ("embedding", "rerank"):
        row["output"] = None
    if entry.get("input_cost_per_query") is not None:
        row["searches"] = number(Decimal(str(entry["input_cost_per_query"])) * 1000)
        row["input"] = row["input"] or None
    row = {key: value for key, value in row.items() if value is not None}
    # Two noughts are a table's way of saying that it does not know.
    if not any(row.values()):
        return []
    tiers = {}
    for key in entry:
        found = re.fullmatch(r"(.+)_above_(\d+)k_tokens", key)
        names = {
            "input_cost_per_token": "input",
            "output_cost_per_token": "output",
            "cache_read_input_token_cost": "cache_read",
            "cache_creation_input_token_cost": "cache_write",
        }
        if found and found[1] in names and per_million(key) is not None:
            tiers.setdefault(int(found[2]) * 1000, {})[names[found[1]]] = per_million(key)
    if tiers:
        row["tiers"] = [{"above": start, **tier} for start, tier in sorted(tiers.items())]
    return [row]


def matches(row, name):
    for known in [row["id"], *row.get("names", [])]:
        known = known.lower()
        core = known.strip("*")
        if known.startswith("*") and known.endswith("*"):
            if core in name:
                return True
        elif known.endswith("*"):
            if name.startswith(core):
                return True
        elif known.startswith("*"):
            if name.endswith(core):
                return True
        elif known == name:
            return True
    return False


def undated(name):
    return re.sub(r"[-@]?(\d{8}|\d{4}-\d{2}-\d{2}|latest)$", "", name).rstrip("-")


def own_date(wheel):
    """Day of a wheel: the newest file in it that has a believable one."""
    with zipfile.ZipFile(wheel) as archive:
        days = [datetime.date(*info.date_time[:3]) for info in archive.infolist() if info.date_time[0] > 2020]
    return max(days).isoformat() if days else None


def main(genai_wheel, litellm_wheel, today):
    providers = genai_providers(genai_wheel)
    with zipfile.ZipFile(litellm_wheel) as archive:
        table = json.load(io.TextIOWrapper(archive.open("litellm/model_prices_and_context_window_backup.json"), "utf-8"))
    vendors = {}
    for vendor, (genai_name, litellm_names) in VENDORS.items():
        rows = []
        for model in providers[genai_name].models if genai_name else []:
            if OTHER.search(model.id):
                continue
            names = [name for name in names_of(model.match) if name.lower() != model.id.lower()]
            row = {"id": model.id}
            if names:
                row["names"] = sorted(set(names))
            if "embed" in model.id or vendor == "voyage":
                row["kind"] = "embedding"
            elif "rerank" in model.id:
                row["kind"] = "rerank"
            if model.context_window:
                row["window"] = model.context_window
            prices = price_rows(model)
            if prices:
                row["prices"] = prices
            row["from"] = "g"
            rows.append(row)
        by_id = {row["id"].lower(): row for row in rows}
        for litellm_name, prefix in litellm_names:
            for key, entry in table.items():
                kind = KINDS.get(entry.get("mode"))
                if entry.get("litellm_provider") != litellm_name or not key.startswith(prefix) or not kind:
                    continue
                name = key[len(prefix):]
                if not prefix and "/" in name:
                    continue  # the same model once more, under its vendor's prefix
                if OTHER.search(name) or name.startswith(("ft:", "us/", "eu/", "global", "us-gov/")) or name in OTHER_NAMES:
                    continue
                low = name.lower()
                row = by_id.get(low) or by_id.get(undated(low)) or next((r for r in rows if matches(r, low)), None)
                if row is None:
                    row = {"id": name, "from": ""}
                    rows.append(row)
                    by_id[low] = row
                is_own = row["id"].lower() == low
                # A dated name must not overwrite what the plain one said.
                if row.get("_facts") and not is_own:
                    continue
                row["_facts"] = True
                if kind != "chat":
                    row["kind"] = kind
                if entry.get("max_input_tokens") and (kind != "chat" or not row.get("window")):
                    row["window"] = int(entry["max_input_tokens"])
                if kind == "chat" and entry.get("max_output_tokens"):
                    row["out"] = int(entry["max_output_tokens"])
                if entry.get("output_vector_size"):
                    row["width"] = int(entry["output_vector_size"])
                if kind == "chat":
                    can = "".join(letter for letter, flag in ABILITIES if entry.get(flag) is True)
                    cannot = "".join(letter for letter, flag in ABILITIES if entry.get(flag) is False)
                    row.pop("can", None)
                    row.pop("cannot", None)
                    if can:
                        row["can"] = can
                    if cannot:
                        row["cannot"] = cannot
                if "prices" not in row:
                    prices = litellm_price(entry)
                    if prices:
                        row["prices"] = prices
                if "l" not in row["from"]:
                    row["from"] += "l"
        for (own_vendor, name), (width, longest, page) in OWN.items():
            if own_vendor != vendor:
                continue
            row = by_id.get(name.lower())
            if row is None:
                row = {"id": name, "from": ""}
                rows.append(row)
                by_id[name.lower()] = row
            row["kind"] = "embedding"
            row["width"] = width
            if longest:
                row["window"] = longest
            row["from"] += "o"
            if page:
                row["page"] = page
        for row in rows:
            row.pop("_facts", None)
        vendors[vendor] = sorted(rows, key=lambda row: row["id"])
    version = lambda wheel: PurePosixPath(wheel).name.split("-")[1]  # noqa: E731
    sources = {
        "g": {"what": f"genai-prices {version(genai_wheel)}, MIT", "page": "https://github.com/pydantic/genai-prices", "date": own_date(genai_wheel) or today},
        "l": {"what": f"litellm {version(litellm_wheel)}, MIT", "page": "https://github.com/BerriAI/litellm", "date": own_date(litellm_wheel) or today},
        "o": {"what": "the vendor's own page", "page": "", "date": today},
    }
    line = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))  # noqa: E731
    print('{"sources":' + line(sources) + ',\n"vendors":{')
    for at, (vendor, rows) in enumerate(vendors.items()):
        print(f'"{vendor}":[')
        print(",\n".join(line(row) for row in rows))
        print("]" + ("," if at + 1 < len(vendors) else ""))
    print("}}")


# Rows of a table that are no models.
OTHER_NAMES = {"container", "together-ai-21.1b-41b", "together-ai-4.1b-8b", "together-ai-41.1b-80b",
               "together-ai-8.1b-21b", "together-ai-81.1b-110b", "together-ai-up-to-4b",
               "together-ai-embedding-151m-to-350m", "together-ai-embedding-up-to-150m"}

if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) == 4 else datetime.date.today().isoformat())
