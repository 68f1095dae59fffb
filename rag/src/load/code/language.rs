//! Which language a file is written in, by its name or its first line, and how its items begin.

/// A language whose items are known, or one that is only named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Language(&'static Row);

#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: &'static str,
    extensions: &'static [&'static str],
    shape: Shape,
}

/// How items begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// With a word, after any number of modifiers.
    Words {
        modifiers: &'static [&'static str],
        /// Items stand in these: classes, modules.
        holders: &'static [&'static str],
        /// No items stand in these: functions, records.
        leaves: &'static [&'static str],
        /// Functions may have no word of their own.
        calls: bool,
    },
    /// `[section]`
    Sections,
    /// `key:` at the start of a line.
    Keys,
    /// Nothing is known of it.
    None,
}

const RUST: Shape = Shape::Words {
    modifiers: &["pub", "async", "unsafe", "extern", "default", "const"],
    holders: &["mod", "impl", "trait"],
    leaves: &["fn", "struct", "enum", "union", "type", "static", "macro_rules!"],
    calls: false,
};
const PYTHON: Shape = Shape::Words {
    modifiers: &["async"],
    holders: &["class"],
    leaves: &["def"],
    calls: false,
};
const SCRIPT: Shape = Shape::Words {
    modifiers: &[
        "export",
        "default",
        "declare",
        "abstract",
        "async",
        "const",
        "let",
        "var",
        "public",
        "private",
        "protected",
        "static",
        "readonly",
        "override",
        "get",
        "set",
    ],
    holders: &["class", "namespace", "module"],
    leaves: &["function", "interface", "enum", "type"],
    calls: true,
};
const C: Shape = Shape::Words {
    modifiers: &[
        "static",
        "inline",
        "extern",
        "typedef",
        "constexpr",
        "virtual",
        "explicit",
        "const",
    ],
    holders: &["namespace", "class"],
    leaves: &["struct", "enum", "union"],
    calls: true,
};
const JAVA: Shape = Shape::Words {
    modifiers: &[
        "public",
        "private",
        "protected",
        "internal",
        "static",
        "final",
        "abstract",
        "sealed",
        "partial",
        "virtual",
        "override",
        "async",
        "open",
        "data",
        "inline",
        "suspend",
        "readonly",
        "unsafe",
        "synchronized",
        "companion",
        "implicit",
        "case",
        "lazy",
        "fileprivate",
        "mutating",
        "required",
        "external",
        "factory",
        "const",
    ],
    holders: &[
        "class",
        "interface",
        "namespace",
        "object",
        "trait",
        "extension",
        "protocol",
        "mixin",
        "impl",
        "actor",
    ],
    leaves: &[
        "fun",
        "func",
        "def",
        "enum",
        "record",
        "struct",
        "typealias",
        "init",
        "deinit",
    ],
    calls: true,
};
const GO: Shape = Shape::Words {
    modifiers: &[],
    holders: &[],
    leaves: &["func", "type"],
    calls: false,
};
const RUBY: Shape = Shape::Words {
    modifiers: &[],
    holders: &["class", "module", "defmodule", "defimpl", "defprotocol"],
    leaves: &["def", "defp", "defmacro"],
    calls: false,
};
const PHP: Shape = Shape::Words {
    modifiers: &[
        "public",
        "private",
        "protected",
        "static",
        "final",
        "abstract",
        "readonly",
    ],
    holders: &["class", "interface", "trait"],
    leaves: &["function", "enum"],
    calls: false,
};
const SHELL: Shape = Shape::Words {
    modifiers: &[],
    holders: &[],
    leaves: &["function"],
    calls: true,
};
const SQL: Shape = Shape::Words {
    modifiers: &[],
    holders: &[],
    leaves: &["CREATE", "create", "Create", "ALTER", "alter"],
    calls: false,
};
const SUB: Shape = Shape::Words {
    modifiers: &["local"],
    holders: &["package"],
    leaves: &["sub", "function", "macro", "struct"],
    calls: false,
};

const ROWS: [Row; 27] = [
    Row {
        name: "rust",
        extensions: &["rs"],
        shape: RUST,
    },
    Row {
        name: "python",
        extensions: &["py", "pyi", "pyx"],
        shape: PYTHON,
    },
    Row {
        name: "javascript",
        extensions: &["js", "mjs", "cjs", "jsx"],
        shape: SCRIPT,
    },
    Row {
        name: "typescript",
        extensions: &["ts", "tsx", "mts", "cts"],
        shape: SCRIPT,
    },
    Row {
        name: "c",
        extensions: &["c", "h"],
        shape: C,
    },
    Row {
        name: "cpp",
        extensions: &["cpp", "cc", "cxx", "hpp", "hh", "hxx", "cu", "ino"],
        shape: C,
    },
    Row {
        name: "objective-c",
        extensions: &["m", "mm"],
        shape: C,
    },
    Row {
        name: "java",
        extensions: &["java"],
        shape: JAVA,
    },
    Row {
        name: "csharp",
        extensions: &["cs"],
        shape: JAVA,
    },
    Row {
        name: "kotlin",
        extensions: &["kt", "kts"],
        shape: JAVA,
    },
    Row {
        name: "scala",
        extensions: &["scala", "sc"],
        shape: JAVA,
    },
    Row {
        name: "swift",
        extensions: &["swift"],
        shape: JAVA,
    },
    Row {
        name: "dart",
        extensions: &["dart"],
        shape: JAVA,
    },
    Row {
        name: "go",
        extensions: &["go"],
        shape: GO,
    },
    Row {
        name: "ruby",
        extensions: &["rb", "rake"],
        shape: RUBY,
    },
    Row {
        name: "elixir",
        extensions: &["ex", "exs"],
        shape: RUBY,
    },
    Row {
        name: "php",
        extensions: &["php"],
        shape: PHP,
    },
    Row {
        name: "shell",
        extensions: &["sh", "bash", "zsh", "ksh"],
        shape: SHELL,
    },
    Row {
        name: "sql",
        extensions: &["sql"],
        shape: SQL,
    },
    Row {
        name: "perl",
        extensions: &["pl", "pm"],
        shape: SUB,
    },
    Row {
        name: "lua",
        extensions: &["lua"],
        shape: SUB,
    },
    Row {
        name: "julia",
        extensions: &["jl"],
        shape: SUB,
    },
    Row {
        name: "toml",
        extensions: &["toml"],
        shape: Shape::Sections,
    },
    Row {
        name: "ini",
        extensions: &["ini", "cfg"],
        shape: Shape::Sections,
    },
    Row {
        name: "yaml",
        extensions: &["yaml", "yml"],
        shape: Shape::Keys,
    },
    Row {
        name: "css",
        extensions: &["css", "scss", "less"],
        shape: Shape::None,
    },
    Row {
        name: "haskell",
        extensions: &["hs"],
        shape: Shape::None,
    },
];

/// Programs that a first line `#!` may name, and their languages.
const PROGRAMS: [(&str, &str); 8] = [
    ("python", "python"),
    ("bash", "shell"),
    ("zsh", "shell"),
    ("sh", "shell"),
    ("node", "javascript"),
    ("ruby", "ruby"),
    ("perl", "perl"),
    ("lua", "lua"),
];

impl Language {
    /// The language of a file: by what stands after the last dot of its name, or without one, by its first line.
    pub(in super::super) fn of(name: &str, bytes: &[u8]) -> Option<Self> {
        let extension = super::super::format::extension(name);
        if extension.is_empty() {
            return Self::of_first_line(bytes);
        }
        ROWS.iter()
            .find(|row| row.extensions.contains(&extension.as_str()))
            .map(Self)
    }

    fn of_first_line(bytes: &[u8]) -> Option<Self> {
        let line = bytes.strip_prefix(b"#!")?;
        let line = line.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line.get(..line.len().min(200))?).ok()?;
        let mut words = line.split_whitespace().filter_map(|word| word.rsplit('/').next());
        let program = words.find(|word| *word != "env" && !word.starts_with('-'))?;
        let program = program.trim_end_matches(|sign: char| sign.is_ascii_digit() || sign == '.');
        let (_, name) = PROGRAMS.iter().find(|(known, _)| *known == program)?;
        ROWS.iter().find(|row| row.name == *name).map(Self)
    }

    /// Its name in small letters: `rust`, `cpp`.
    pub(in super::super) fn name(self) -> &'static str {
        self.0.name
    }

    pub(super) fn shape(self) -> Shape {
        self.0.shape
    }
}
