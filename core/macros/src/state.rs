//! `#[derive(State)]`: a struct becomes the state of a graph, with a typed partial update beside it.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use std::collections::HashMap;
use syn::{
    Attribute, Data, DeriveInput, Expr, ExprLit, Fields, Ident, Lit, LitStr, Path, Type,
    meta::ParseNestedMeta, spanned::Spanned,
};

/// What the attribute on a struct says.
struct Names {
    /// The module that has `State`.
    krate: Path,
    update: Ident,
    keys: Ident,
}

/// How a field is folded.
enum Reducer {
    Last,
    Append,
    Add,
    Merge,
    Set,
    Messages,
    Custom(Path),
}

struct Slot<'a> {
    name: &'a Ident,
    ty: &'a Type,
    key: String,
    docs: Vec<&'a Attribute>,
    rule: Rule,
}

/// What the attribute on a field says.
struct Rule {
    reducer: Reducer,
    /// Where the reducer is named, for the compiler's complaints.
    span: Span,
    is_ephemeral: bool,
    is_untracked: bool,
}

pub(crate) fn expand(item: TokenStream) -> syn::Result<TokenStream> {
    let input: DeriveInput = syn::parse2(item)?;
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new(
            input.generics.span(),
            "a state has no generics: it is stored and read back as plain data",
        ));
    }
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new(
            input.ident.span(),
            "#[derive(State)] takes a struct with named fields",
        ));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new(
            input.ident.span(),
            "#[derive(State)] takes a struct with named fields",
        ));
    };
    let names = names(&input)?;
    let slots = fields
        .named
        .iter()
        .map(|field| {
            let Some(name) = &field.ident else {
                return Err(syn::Error::new(field.span(), "name the field"));
            };
            let plain = name.to_string();
            Ok(Slot {
                name,
                ty: &field.ty,
                key: plain.strip_prefix("r#").unwrap_or(&plain).to_owned(),
                docs: field
                    .attrs
                    .iter()
                    .filter(|attr| attr.path().is_ident("doc"))
                    .collect(),
                rule: rule(&field.attrs, field.ty.span())?,
            })
        })
        .collect::<syn::Result<Vec<_>>>()?;
    check_setters(&slots)?;
    slots.iter().try_for_each(Slot::check_type)?;
    let demands = slots.iter().map(|slot| slot.demands(&names.krate));
    let demands = quote!(const _: fn() = || { #(#demands)* };);
    let update = update(&input, &slots, &names);
    let state = state(&input, &slots, &names);
    let keys = keys(&input, &slots, &names);
    let messages = has_messages(&input, &slots, &names);
    Ok(quote! { #demands #update #state #keys #messages })
}

/// `#[state(crate = "..", update = "..")]` on the struct.
fn names(input: &DeriveInput) -> syn::Result<Names> {
    let mut names = Names {
        krate: syn::parse_quote!(::stepwell::agent),
        update: format_ident!("{}Update", input.ident),
        keys: format_ident!("{}Keys", input.ident),
    };
    for attr in input.attrs.iter().filter(|attr| attr.path().is_ident("state")) {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("crate") {
                names.krate = meta.value()?.parse::<LitStr>()?.parse()?;
            } else if meta.path.is_ident("update") {
                names.update = meta.value()?.parse::<LitStr>()?.parse()?;
            } else {
                return Err(meta.error("on the struct are known: crate = \"path\", update = \"Name\""));
            }
            Ok(())
        })?;
    }
    Ok(names)
}

fn rule(attrs: &[Attribute], unnamed: Span) -> syn::Result<Rule> {
    let mut found = None;
    let (mut is_ephemeral, mut is_untracked) = (false, false);
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("state")) {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("ephemeral") {
                return say_once(&meta, &mut is_ephemeral);
            }
            if meta.path.is_ident("untracked") {
                return say_once(&meta, &mut is_untracked);
            }
            let reducer = match meta.path.get_ident().map(ToString::to_string).as_deref() {
                Some("last") => Reducer::Last,
                Some("append") => Reducer::Append,
                Some("add") => Reducer::Add,
                Some("merge") => Reducer::Merge,
                Some("set") => Reducer::Set,
                Some("messages") => Reducer::Messages,
                Some("custom") => Reducer::Custom(path_value(&meta.value()?.parse()?)?),
                _ => {
                    return Err(meta.error(
                        "known here: one of last, append, add, merge, set, messages, custom = path::to::function, \
                         and beside it ephemeral, untracked",
                    ));
                }
            };
            if found.replace((reducer, meta.path.span())).is_some() {
                return Err(meta.error("a key has one reducer"));
            }
            Ok(())
        })?;
    }
    let (reducer, span) = found.unwrap_or((Reducer::Last, unnamed));
    Ok(Rule {
        reducer,
        span: span.resolved_at(Span::call_site()),
        is_ephemeral,
        is_untracked,
    })
}

fn say_once(meta: &ParseNestedMeta<'_>, is_said: &mut bool) -> syn::Result<()> {
    if std::mem::replace(is_said, true) {
        return Err(meta.error("say it once"));
    }
    Ok(())
}

/// The setters of a field are `x`, `with_x` and `overwrite_x`: no two may have one name.
fn check_setters(slots: &[Slot<'_>]) -> syn::Result<()> {
    let mut taken = HashMap::new();
    for Slot { key, name, .. } in slots {
        for setter in [key.clone(), format!("with_{key}"), format!("overwrite_{key}")] {
            if let Some(other) = taken.insert(setter.clone(), key) {
                let message = format!(
                    "the update would have two functions `{setter}`, for `{other}` and for `{key}`: rename one"
                );
                return Err(syn::Error::new(name.span(), message));
            }
        }
    }
    Ok(())
}

/// A path, bare or as a string.
fn path_value(value: &Expr) -> syn::Result<Path> {
    match value {
        Expr::Path(path) => Ok(path.path.clone()),
        Expr::Lit(ExprLit {
            lit: Lit::Str(text), ..
        }) => text.parse(),
        other => Err(syn::Error::new(
            other.span(),
            "give the path of a `fn(&mut Field, Field)`",
        )),
    }
}

impl Reducer {
    /// The type in the agent crate that folds; a custom one is called by its path.
    fn marker(&self) -> &'static str {
        match self {
            Self::Last | Self::Custom(_) => "Last",
            Self::Append => "Append",
            Self::Add => "Add",
            Self::Merge => "Merge",
            Self::Set => "Union",
            Self::Messages => "ById",
        }
    }
}

impl Slot<'_> {
    /// The rule by which the slot folds.
    fn reduce(&self, krate: &Path) -> TokenStream {
        let marker = Ident::new(self.rule.reducer.marker(), self.rule.span);
        let ty = self.ty;
        quote!(<#krate::#marker as #krate::Reduce<#ty>>)
    }

    /// What a node writes into the slot: the reducer's `Update`, spelt out so that a type without that reducer is one
    /// error and not one for each trait of the update.
    fn written(&self, krate: &Path) -> TokenStream {
        let ty = self.ty;
        match self.rule.reducer {
            Reducer::Last | Reducer::Add | Reducer::Merge | Reducer::Custom(_) => quote!(#ty),
            Reducer::Append | Reducer::Set => {
                quote!(::std::vec::Vec<<#ty as ::core::iter::IntoIterator>::Item>)
            }
            Reducer::Messages => quote!(::std::vec::Vec<#krate::MessageChange>),
        }
    }

    /// What the types must be able to do, asked before anything else so that the compiler says it first.
    fn demands(&self, krate: &Path) -> TokenStream {
        let ty = self.ty;
        let kept =
            (!self.rule.is_untracked).then(|| quote_spanned!(ty.span()=> #krate::__private::kept::<#ty>();));
        let folds = (!matches!(self.rule.reducer, Reducer::Last | Reducer::Custom(_))).then(|| {
            let marker = Ident::new(self.rule.reducer.marker(), self.rule.span);
            quote_spanned!(self.rule.span=> #krate::__private::folds::<#krate::#marker, #ty>();)
        });
        quote!(#kept #folds)
    }

    /// Types that everybody knows are refused in one sentence, where the reducer is none of theirs.
    fn check_type(&self) -> syn::Result<()> {
        let Type::Path(path) = self.ty else { return Ok(()) };
        let Some(name) = path.path.segments.last().map(|segment| segment.ident.to_string()) else {
            return Ok(());
        };
        let is_number = NUMBERS.contains(&name.as_str());
        let is_known = is_number || KNOWN.contains(&name.as_str());
        let (word, takes, fits) = match self.rule.reducer {
            Reducer::Last | Reducer::Custom(_) => return Ok(()),
            Reducer::Append => ("append", "a `Vec`", name == "Vec"),
            Reducer::Add => (
                "add",
                "a number, a `Duration` or an `Amount` of your own",
                is_number,
            ),
            Reducer::Merge => ("merge", "a map", name.ends_with("Map")),
            Reducer::Set => ("set", "a set", name.ends_with("Set")),
            Reducer::Messages => ("messages", "`Messages`", false),
        };
        if is_known && !fits {
            return Err(syn::Error::new(
                self.ty.span(),
                format!("`{word}` takes {takes}, not `{name}`: give the field another reducer or type"),
            ));
        }
        Ok(())
    }

    /// The reducer's word.
    fn word(&self, krate: &Path) -> TokenStream {
        if let Reducer::Custom(path) = &self.rule.reducer {
            let word = format!("custom:{}", quote!(#path)).replace(' ', "");
            return quote!(#word);
        }
        let reduce = self.reduce(krate);
        quote!(#reduce::NAME)
    }

    /// A setter's argument, and the argument as what is written.
    fn argument(&self, krate: &Path) -> (TokenStream, TokenStream) {
        let ty = self.ty;
        match self.rule.reducer {
            Reducer::Append | Reducer::Set => (
                quote!(impl ::core::iter::IntoIterator<
                    Item = impl ::core::convert::Into<<#ty as ::core::iter::IntoIterator>::Item>,
                >),
                quote!(value.into_iter().map(::core::convert::Into::into).collect()),
            ),
            Reducer::Messages => (
                quote!(impl ::core::iter::IntoIterator<
                    Item = impl ::core::convert::Into<#krate::MessageChange>,
                >),
                quote!(value.into_iter().map(::core::convert::Into::into).collect()),
            ),
            // A number's literal would not know its type behind `Into`.
            _ if is_plain(ty) => (quote!(#ty), quote!(value)),
            _ => (
                quote!(impl ::core::convert::Into<#ty>),
                quote!(::core::convert::Into::into(value)),
            ),
        }
    }
}

const NUMBERS: [&str; 14] = [
    "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize",
];
const KNOWN: [&str; 9] = [
    "bool", "char", "String", "Option", "Vec", "HashMap", "BTreeMap", "HashSet", "BTreeSet",
];

fn is_plain(ty: &Type) -> bool {
    let is_plain = |name: &str| NUMBERS.contains(&name) || name == "bool" || name == "char";
    matches!(ty, Type::Path(path) if path.path.get_ident().is_some_and(|name| is_plain(&name.to_string())))
}

fn update(input: &DeriveInput, slots: &[Slot<'_>], names: &Names) -> TokenStream {
    let Names { krate, update, .. } = names;
    let vis = &input.vis;
    let doc = format!(
        " A partial change of [`{}`]: what a node writes of it.",
        input.ident
    );
    let serde = LitStr::new(&path_text(krate, "__private::serde"), Span::call_site());
    let mut fields = Vec::new();
    let mut setters = Vec::new();
    let mut visits = Vec::new();
    let mut discards = Vec::new();
    for slot in slots {
        let Slot {
            name,
            ty,
            key,
            docs,
            rule,
        } = slot;
        let written = slot.written(krate);
        let serde = if rule.is_untracked {
            quote!(#[serde(skip)])
        } else {
            quote!(#[serde(default, skip_serializing_if = "::core::option::Option::is_none")])
        };
        fields.push(quote! {
            #(#docs)*
            #serde
            #vis #name: ::core::option::Option<#krate::Write<#ty, #written>>
        });
        let (with, overwrite) = (format_ident!("with_{key}"), format_ident!("overwrite_{key}"));
        let (argument, value) = slot.argument(krate);
        let (of, and, over) = (
            format!(" Writes `{key}` alone."),
            format!(" Writes `{key}` too."),
            format!(" Replaces `{key}`, whatever its reducer; beats every other write of the step."),
        );
        setters.push(quote! {
            #[doc = #of]
            #vis fn #name(value: #argument) -> Self {
                Self { #name: ::core::option::Option::Some(#krate::Write::Fold(#value)), ..::core::default::Default::default() }
            }

            #[doc = #and]
            #vis fn #with(mut self, value: #argument) -> Self {
                self.#name = ::core::option::Option::Some(#krate::Write::Fold(#value));
                self
            }

            #[doc = #over]
            #vis fn #overwrite(mut self, value: impl ::core::convert::Into<#ty>) -> Self {
                self.#name = ::core::option::Option::Some(#krate::Write::Overwrite(::core::convert::Into::into(value)));
                self
            }
        });
        visits.push(quote! {
            if let ::core::option::Option::Some(write) = &self.#name {
                found(#key, write.kind());
            }
        });
        discards.push(quote! {
            #key if ::core::matches!(self.#name, ::core::option::Option::Some(#krate::Write::Fold(_))) => {
                self.#name = ::core::option::Option::None;
            }
        });
    }
    quote! {
        #[doc = #doc]
        #[derive(Clone, Debug, Default, #krate::__private::serde::Serialize, #krate::__private::serde::Deserialize)]
        #[serde(crate = #serde, deny_unknown_fields)]
        #vis struct #update { #(#fields),* }

        #[allow(dead_code, clippy::all, clippy::pedantic)] // one set per key; a graph uses what it needs
        impl #update { #(#setters)* }

        impl #krate::Update for #update {
            fn visit<'a>(&'a self, found: &mut dyn ::core::ops::FnMut(&'a str, #krate::WriteKind)) {
                #(#visits)*
            }

            fn discard_fold(&mut self, key: &str) {
                match key {
                    #(#discards)*
                    _ => {}
                }
            }
        }
    }
}

fn state(input: &DeriveInput, slots: &[Slot<'_>], names: &Names) -> TokenStream {
    let Names { krate, update, .. } = names;
    let ident = &input.ident;
    let private = quote!(#krate::__private);
    let mut channels = Vec::new();
    let mut reduced = Vec::new();
    let mut checks = Vec::new();
    let mut folds = Vec::new();
    let mut saves = Vec::new();
    let mut restores = Vec::new();
    let mut expiries = Vec::new();
    for slot in slots {
        let Slot { name, key, rule, .. } = slot;
        let reduce = slot.reduce(krate);
        let word = slot.word(krate);
        let ephemeral = rule.is_ephemeral.then(|| quote!(.ephemeral()));
        let untracked = rule.is_untracked.then(|| quote!(.untracked()));
        channels.push(quote!(#krate::Channel::new(#key, #word) #ephemeral #untracked));
        let is_custom = matches!(rule.reducer, Reducer::Custom(_));
        reduced.push(quote!(#key => ::core::option::Option::Some(#is_custom || #reduce::IS_REDUCED)));
        let fold = if let Reducer::Custom(path) = &rule.reducer {
            quote!(#path(&mut self.#name, value))
        } else {
            checks.push(quote! {
                if let ::core::option::Option::Some(#krate::Write::Fold(value)) = &update.#name {
                    #reduce::check(&self.#name, value).map_err(|complaint| #private::misfit(#key, complaint))?;
                }
            });
            quote!(#reduce::fold(&mut self.#name, value))
        };
        folds.push(quote! {
            match update.#name {
                ::core::option::Option::Some(#krate::Write::Fold(value)) => #fold,
                ::core::option::Option::Some(#krate::Write::Overwrite(value)) => self.#name = value,
                ::core::option::Option::None => {}
            }
        });
        if rule.is_untracked {
            restores.push(quote!(#name: ::core::clone::Clone::clone(&self.#name)));
        } else {
            saves.push(quote!(#private::save(&mut saved, #key, &self.#name)?;));
            restores.push(quote!(#name: #private::restore(&mut saved, #key, &self.#name)?));
        }
        if rule.is_ephemeral {
            expiries.push(quote!(self.#name = ::core::clone::Clone::clone(&blank.#name);));
        }
    }
    let expire = (!expiries.is_empty()).then(|| {
        quote! {
            fn expire(&mut self, blank: &Self) {
                #(#expiries)*
            }
        }
    });
    quote! {
        impl #krate::State for #ident {
            type Update = #update;

            fn channels(&self) -> ::std::vec::Vec<#krate::Channel> {
                ::std::vec![#(#channels),*]
            }

            fn is_reduced(&self, key: &str) -> ::core::option::Option<bool> {
                match key {
                    #(#reduced,)*
                    _ => ::core::option::Option::None,
                }
            }

            #expire

            fn apply(&mut self, update: #update) -> #private::Result<()> {
                #(#checks)*
                #(#folds)*
                ::core::result::Result::Ok(())
            }

            fn save(&self) -> #private::Result<#private::serde_json::Value> {
                let mut saved = #private::serde_json::Map::new();
                #(#saves)*
                ::core::result::Result::Ok(#private::serde_json::Value::Object(saved))
            }

            fn restore(&self, saved: #private::serde_json::Value) -> #private::Result<Self> {
                let mut saved = #private::fields(saved)?;
                let restored = Self { #(#restores),* };
                #private::all_read(&saved)?;
                ::core::result::Result::Ok(restored)
            }
        }
    }
}

/// `Name::KEYS`: the names of the slots, checked by the compiler.
fn keys(input: &DeriveInput, slots: &[Slot<'_>], names: &Names) -> TokenStream {
    let (ident, vis, keys) = (&input.ident, &input.vis, &names.keys);
    let fields: Vec<&Ident> = slots.iter().map(|slot| slot.name).collect();
    let words: Vec<&str> = slots.iter().map(|slot| slot.key.as_str()).collect();
    let docs = words.iter().map(|word| format!(" `{word}`."));
    let count = slots.len();
    let (doc, of) = (
        format!(" The names of the keys of [`{ident}`], which has them as `{ident}::KEYS`."),
        " The names of its keys: one that is misspelt does not compile.",
    );
    quote! {
        #[doc = #doc]
        #[derive(Clone, Copy, Debug)]
        #[allow(dead_code)] // a program uses those it needs
        #vis struct #keys { #(#[doc = #docs] #vis #fields: &'static str),* }

        #[allow(dead_code)]
        impl #keys {
            /// All of them, in order.
            #vis const fn all(self) -> [&'static str; #count] {
                [#(#words),*]
            }
        }

        #[allow(dead_code)]
        impl #ident {
            #[doc = #of]
            #vis const KEYS: #keys = #keys { #(#fields: #words),* };
        }
    }
}

/// A state with exactly one message list is one the model and tools nodes can work on.
fn has_messages(input: &DeriveInput, slots: &[Slot<'_>], names: &Names) -> TokenStream {
    let mut lists = slots
        .iter()
        .filter(|slot| matches!(slot.rule.reducer, Reducer::Messages));
    let (Some(slot), None) = (lists.next(), lists.next()) else {
        return TokenStream::new();
    };
    let Names { krate, update, .. } = names;
    let (ident, name) = (&input.ident, slot.name);
    quote! {
        impl #krate::HasMessages for #ident {
            fn messages(&self) -> &#krate::Messages {
                &self.#name
            }

            fn add_messages(messages: ::std::vec::Vec<#krate::__private::Message>) -> #update {
                #update::#name(messages)
            }
        }
    }
}

fn path_text(krate: &Path, rest: &str) -> String {
    let lead = if krate.leading_colon.is_some() { "::" } else { "" };
    let segments: Vec<String> = krate
        .segments
        .iter()
        .map(|segment| segment.ident.to_string())
        .collect();
    format!("{lead}{}::{rest}", segments.join("::"))
}
