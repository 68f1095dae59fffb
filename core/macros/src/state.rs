//! `#[derive(State)]`: a struct becomes the state of a graph, with a typed partial update beside it.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Attribute, Data, DeriveInput, Expr, ExprLit, Fields, Ident, Lit, LitStr, Path, Type, spanned::Spanned,
};

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
    reducer: Reducer,
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
    let krate = krate(&input.attrs)?;
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
                reducer: reducer(&field.attrs)?,
            })
        })
        .collect::<syn::Result<Vec<_>>>()?;
    let update = update(&input, &slots, &krate);
    let state = state(&input, &slots, &krate);
    let messages = has_messages(&input, &slots, &krate);
    Ok(quote! { #update #state #messages })
}

/// `#[state(crate = "..")]` on the struct: the module that has `State`.
fn krate(attrs: &[Attribute]) -> syn::Result<Path> {
    let mut krate = syn::parse_quote!(::stepwell::agent);
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("state")) {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("on the struct only `crate = \"..\"` is known"));
            }
            krate = meta.value()?.parse::<LitStr>()?.parse()?;
            Ok(())
        })?;
    }
    Ok(krate)
}

fn reducer(attrs: &[Attribute]) -> syn::Result<Reducer> {
    let mut found = None;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("state")) {
        attr.parse_nested_meta(|meta| {
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
                        "known here: last, append, add, merge, set, messages, custom = path::to::function",
                    ));
                }
            };
            if found.replace(reducer).is_some() {
                return Err(meta.error("a key has one reducer"));
            }
            Ok(())
        })?;
    }
    Ok(found.unwrap_or(Reducer::Last))
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
    fn marker(&self) -> Ident {
        let name = match self {
            Self::Last | Self::Custom(_) => "Last",
            Self::Append => "Append",
            Self::Add => "Add",
            Self::Merge => "Merge",
            Self::Set => "Union",
            Self::Messages => "ById",
        };
        Ident::new(name, Span::call_site())
    }

    fn word(&self, krate: &Path, ty: &Type) -> TokenStream {
        if let Self::Custom(path) = self {
            let word = format!("custom:{}", quote!(#path)).replace(' ', "");
            return quote!(#word);
        }
        let marker = self.marker();
        quote!(<#krate::#marker as #krate::Reduce<#ty>>::NAME)
    }
}

impl Slot<'_> {
    /// What a node writes into the slot.
    fn written(&self, krate: &Path) -> TokenStream {
        let (marker, ty) = (self.reducer.marker(), self.ty);
        quote!(<#krate::#marker as #krate::Reduce<#ty>>::Update)
    }

    /// A setter's argument, and the argument as what is written.
    fn argument(&self, krate: &Path) -> (TokenStream, TokenStream) {
        let ty = self.ty;
        match self.reducer {
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

fn is_plain(ty: &Type) -> bool {
    const PLAIN: [&str; 16] = [
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64",
        "u128", "usize",
    ];
    matches!(ty, Type::Path(path) if PLAIN.iter().any(|plain| path.path.is_ident(plain)))
}

fn update_name(input: &DeriveInput) -> Ident {
    format_ident!("{}Update", input.ident)
}

fn update(input: &DeriveInput, slots: &[Slot<'_>], krate: &Path) -> TokenStream {
    let (vis, update) = (&input.vis, update_name(input));
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
            name, ty, key, docs, ..
        } = slot;
        let written = slot.written(krate);
        fields.push(quote! {
            #(#docs)*
            #[serde(default, skip_serializing_if = "::core::option::Option::is_none")]
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

fn state(input: &DeriveInput, slots: &[Slot<'_>], krate: &Path) -> TokenStream {
    let (ident, update) = (&input.ident, update_name(input));
    let private = quote!(#krate::__private);
    let mut channels = Vec::new();
    let mut reduced = Vec::new();
    let mut checks = Vec::new();
    let mut folds = Vec::new();
    let mut saves = Vec::new();
    let mut restores = Vec::new();
    for slot in slots {
        let Slot {
            name,
            ty,
            key,
            reducer,
            ..
        } = slot;
        let marker = reducer.marker();
        let rule = quote!(<#krate::#marker as #krate::Reduce<#ty>>);
        let word = reducer.word(krate, ty);
        channels.push(quote!(#krate::Channel::new(#key, #word)));
        let is_custom = matches!(reducer, Reducer::Custom(_));
        reduced.push(quote!(#key => ::core::option::Option::Some(#is_custom || #rule::IS_REDUCED)));
        let fold = if let Reducer::Custom(path) = reducer {
            quote!(#path(&mut self.#name, value))
        } else {
            checks.push(quote! {
                if let ::core::option::Option::Some(#krate::Write::Fold(value)) = &update.#name {
                    #rule::check(&self.#name, value).map_err(|complaint| #private::misfit(#key, complaint))?;
                }
            });
            quote!(#rule::fold(&mut self.#name, value))
        };
        folds.push(quote! {
            match update.#name {
                ::core::option::Option::Some(#krate::Write::Fold(value)) => #fold,
                ::core::option::Option::Some(#krate::Write::Overwrite(value)) => self.#name = value,
                ::core::option::Option::None => {}
            }
        });
        saves.push(quote!(#private::save(&mut saved, #key, &self.#name)?;));
        restores.push(quote!(#name: #private::restore(&mut saved, #key, &self.#name)?));
    }
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
                ::core::result::Result::Ok(Self { #(#restores),* })
            }
        }
    }
}

/// A state with exactly one message list is one the model and tools nodes can work on.
fn has_messages(input: &DeriveInput, slots: &[Slot<'_>], krate: &Path) -> TokenStream {
    let mut lists = slots
        .iter()
        .filter(|slot| matches!(slot.reducer, Reducer::Messages));
    let (Some(slot), None) = (lists.next(), lists.next()) else {
        return TokenStream::new();
    };
    let (ident, name, update) = (&input.ident, slot.name, update_name(input));
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
