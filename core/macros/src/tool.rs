//! `#[tool]`: an async function becomes a `Tool`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, Expr, ExprLit, FnArg, GenericArgument, Ident, ItemFn, Lit, LitStr, Meta, Pat, Path,
    PathArguments, ReturnType, Token, Type, parse::Parser, punctuated::Punctuated, spanned::Spanned,
};

#[derive(Default)]
struct Options {
    name: Option<String>,
    effect: Option<Ident>,
    risk: Option<Ident>,
    timeout_ms: Option<u64>,
    is_sequential: bool,
    krate: Option<Path>,
}

pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options = parse_options(attributes)?;
    let function: ItemFn = syn::parse2(item)?;
    if function.sig.asyncness.is_none() {
        return Err(syn::Error::new(
            function.sig.fn_token.span(),
            "#[tool] takes an `async fn`",
        ));
    }
    if !function.sig.generics.params.is_empty() {
        return Err(syn::Error::new(
            function.sig.generics.span(),
            "a tool has no generics: the model sends plain JSON",
        ));
    }
    let description = doc_text(&function.attrs);
    if description.is_empty() {
        return Err(syn::Error::new(
            function.sig.ident.span(),
            "write a doc comment: it tells the model when to use the tool",
        ));
    }
    let krate = options
        .krate
        .clone()
        .unwrap_or_else(|| syn::parse_quote!(::stepwell));
    let mut fields = Vec::new();
    let mut names = Vec::new();
    let mut context: Pat = syn::parse_quote!(_);
    for input in &function.sig.inputs {
        let FnArg::Typed(input) = input else {
            return Err(syn::Error::new(
                input.span(),
                "a tool function has no `self`; keep state in a struct that implements `Tool`",
            ));
        };
        if is_context(&input.ty) {
            context = (*input.pat).clone();
            continue;
        }
        if let Type::Reference(reference) = &*input.ty {
            return Err(syn::Error::new(
                reference.span(),
                "arguments are owned: take `String` instead of `&str`",
            ));
        }
        let Pat::Ident(name) = &*input.pat else {
            return Err(syn::Error::new(
                input.pat.span(),
                "name each argument: the model sends it by name",
            ));
        };
        let (name, ty) = (&name.ident, &input.ty);
        let attrs = input.attrs.iter().filter(|attr| {
            ["doc", "serde", "schemars"]
                .iter()
                .any(|known| attr.path().is_ident(known))
        });
        fields.push(quote! { #(#attrs)* pub #name: #ty });
        names.push(name.clone());
    }
    let (output, is_result) = output_type(&function.sig.output);
    let returned = match &function.sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => quote!(#ty),
    };
    let finish = if is_result {
        quote! { result.map_err(::core::convert::Into::into) }
    } else {
        quote! { ::core::result::Result::Ok(result) }
    };
    let (ident, vis, body) = (&function.sig.ident, &function.vis, &function.block);
    let docs = function.attrs.iter().filter(|attr| attr.path().is_ident("doc"));
    let name = options.name.clone().unwrap_or_else(|| ident.to_string());
    let settings = settings(&options, &krate);
    let serde = LitStr::new(&path_text(&krate, "__private::serde"), ident.span());
    let schemars = LitStr::new(&path_text(&krate, "__private::schemars"), ident.span());
    let args = format_ident!("Args");
    Ok(quote! {
        #(#docs)*
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, Default)]
        #vis struct #ident;

        const _: () = {
            #[derive(#krate::__private::serde::Deserialize, #krate::__private::schemars::JsonSchema)]
            #[serde(crate = #serde)]
            #[schemars(crate = #schemars)]
            #[allow(missing_docs)]
            pub struct #args { #(#fields),* }

            impl #krate::Tool for #ident {
                const NAME: &'static str = #name;
                const DESCRIPTION: &'static str = #description;
                type Args = #args;
                type Output = #output;

                fn options(&self) -> #krate::ToolOptions {
                    #settings
                }

                async fn call(
                    &self,
                    #args { #(#names),* }: #args,
                    #context: &#krate::ToolContext,
                ) -> ::core::result::Result<#output, #krate::ToolError> {
                    let result: #returned = async move #body.await;
                    #finish
                }
            }
        };
    })
}

fn parse_options(attributes: TokenStream) -> syn::Result<Options> {
    let mut options = Options::default();
    for meta in Punctuated::<Meta, Token![,]>::parse_terminated.parse2(attributes)? {
        let span = meta.span();
        let key = meta
            .path()
            .get_ident()
            .map(ToString::to_string)
            .unwrap_or_default();
        if key == "sequential" {
            options.is_sequential = true;
            continue;
        }
        let Meta::NameValue(pair) = &meta else {
            return Err(syn::Error::new(span, "write `key = value`, or `sequential`"));
        };
        if key == "crate" || pair.path.is_ident("crate") {
            options.krate = Some(text(&pair.value)?.parse()?);
            continue;
        }
        match key.as_str() {
            "name" => options.name = Some(text(&pair.value)?.value()),
            "effect" => options.effect = Some(variant(&pair.value, &["pure", "idempotent", "at_most_once"])?),
            "risk" => options.risk = Some(variant(&pair.value, &["read", "write", "egress"])?),
            "timeout_ms" => match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Int(number),
                    ..
                }) => options.timeout_ms = Some(number.base10_parse()?),
                other => {
                    return Err(syn::Error::new(
                        other.span(),
                        "give a whole number of milliseconds",
                    ));
                }
            },
            _ => {
                return Err(syn::Error::new(
                    span,
                    "known here: name, effect, risk, timeout_ms, sequential, crate",
                ));
            }
        }
    }
    Ok(options)
}

fn text(value: &Expr) -> syn::Result<LitStr> {
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text), ..
        }) => Ok(text.clone()),
        other => Err(syn::Error::new(other.span(), "give a string")),
    }
}

/// `at_most_once` → `AtMostOnce`, when it is one of the known words.
fn variant(value: &Expr, known: &[&str]) -> syn::Result<Ident> {
    let word = text(value)?;
    if !known.contains(&word.value().as_str()) {
        return Err(syn::Error::new(
            word.span(),
            format!("one of: {}", known.join(", ")),
        ));
    }
    let camel: String = word
        .value()
        .split('_')
        .map(|part| part[..1].to_uppercase() + &part[1..])
        .collect();
    Ok(Ident::new(&camel, word.span()))
}

fn settings(options: &Options, krate: &Path) -> TokenStream {
    let mut settings = quote! { #krate::ToolOptions::default() };
    if let Some(effect) = &options.effect {
        settings = quote! { #settings.effect(#krate::Effect::#effect) };
    }
    if let Some(risk) = &options.risk {
        settings = quote! { #settings.risk(#krate::Risk::#risk) };
    }
    if let Some(ms) = options.timeout_ms {
        settings = quote! { #settings.timeout(::core::time::Duration::from_millis(#ms)) };
    }
    if options.is_sequential {
        settings = quote! { #settings.parallel(false) };
    }
    settings
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

fn doc_text(attrs: &[Attribute]) -> String {
    let lines: Vec<String> = attrs
        .iter()
        .filter_map(|attr| match &attr.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => {
                text(&pair.value).ok().map(|line| line.value().trim().to_owned())
            }
            _ => None,
        })
        .collect();
    lines.join("\n").trim().to_owned()
}

fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference) if matches!(&*reference.elem, Type::Path(path)
        if path.path.segments.last().is_some_and(|segment| segment.ident == "ToolContext")))
}

/// The `T` of `Result<T, E>`, or the type itself.
fn output_type(output: &ReturnType) -> (TokenStream, bool) {
    let ReturnType::Type(_, ty) = output else {
        return (quote!(()), false);
    };
    if let Type::Path(path) = &**ty
        && let Some(last) = path.path.segments.last()
        && last.ident == "Result"
        && let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(GenericArgument::Type(first)) = arguments.args.first()
    {
        return (quote!(#first), true);
    }
    (quote!(#ty), false)
}
