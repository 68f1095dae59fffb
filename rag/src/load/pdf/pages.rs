//! The page tree: pages in order with what they inherit, whatever loops or gaps it has.

use std::collections::HashSet;

use lopdf::{Dictionary, Document as Pdf, Object, ObjectId};

use super::super::guard::Guard;
use super::super::refusal::Refusal;

/// Deepest tree; real ones have a handful of levels.
const DEEPEST: usize = 64;

/// A page: its own dictionary and the resources it has or inherits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    pub(super) dictionary: &'a Dictionary,
    pub(super) resources: Option<&'a Dictionary>,
}

/// Whether the catalog leads to a tree of pages.
pub(super) fn has_tree(pdf: &Pdf) -> bool {
    let root = pdf
        .trailer
        .get(b"Root")
        .ok()
        .and_then(|root| dictionary(pdf, root));
    let tree = root.and_then(|root| entry(pdf, root, b"Pages"));
    let kids = tree.and_then(|tree| pdf.dereference(tree.get(b"Kids").ok()?).ok());
    matches!(kids, Some((_, Object::Array(_))))
}

/// The pages in reading order. Where the catalog leads nowhere, every object that says it is a page counts.
pub(super) fn of<'a>(pdf: &'a Pdf, guard: &Guard) -> Result<Vec<Page<'a>>, Refusal> {
    let mut found = Vec::new();
    if let Some(root) = pdf
        .trailer
        .get(b"Root")
        .ok()
        .and_then(|root| dictionary(pdf, root))
        .and_then(|root| root.get(b"Pages").ok())
    {
        let mut seen = HashSet::new();
        walk(pdf, root, None, 0, &mut seen, &mut found, guard)?;
    }
    if found.is_empty() {
        for object in pdf.objects.values() {
            if let Object::Dictionary(page) = object
                && page
                    .get(b"Type")
                    .and_then(Object::as_name)
                    .is_ok_and(|name| name == b"Page")
            {
                push(
                    &mut found,
                    Page {
                        dictionary: page,
                        resources: entry(pdf, page, b"Resources"),
                    },
                    guard,
                )?;
            }
        }
    }
    Ok(found)
}

fn walk<'a>(
    pdf: &'a Pdf,
    node: &'a Object,
    inherited: Option<&'a Dictionary>,
    depth: usize,
    seen: &mut HashSet<ObjectId>,
    found: &mut Vec<Page<'a>>,
    guard: &Guard,
) -> Result<(), Refusal> {
    guard.check()?;
    let Ok((id, object)) = pdf.dereference(node) else {
        return Ok(());
    };
    let Object::Dictionary(node) = object else {
        return Ok(());
    };
    let resources = entry(pdf, node, b"Resources").or(inherited);
    let kids = node
        .get(b"Kids")
        .ok()
        .and_then(|kids| pdf.dereference(kids).ok())
        .and_then(|(_, kids)| kids.as_array().ok());
    let Some(kids) = kids else {
        // A page may stand in the tree twice; then it is shown twice.
        return push(
            found,
            Page {
                dictionary: node,
                resources,
            },
            guard,
        );
    };
    if depth >= DEEPEST || id.is_some_and(|id| !seen.insert(id)) {
        return Ok(());
    }
    for kid in kids {
        walk(pdf, kid, resources, depth + 1, seen, found, guard)?;
    }
    Ok(())
}

fn push<'a>(found: &mut Vec<Page<'a>>, page: Page<'a>, guard: &Guard) -> Result<(), Refusal> {
    if found.len() >= guard.limits.pages {
        return Err(guard.limits.too_many_pages());
    }
    found.push(page);
    Ok(())
}

/// A dictionary, a stream's own or what a reference leads to.
pub(super) fn dictionary<'a>(pdf: &'a Pdf, object: &'a Object) -> Option<&'a Dictionary> {
    match pdf.dereference(object).ok()?.1 {
        Object::Dictionary(dictionary) => Some(dictionary),
        Object::Stream(stream) => Some(&stream.dict),
        _ => None,
    }
}

/// A dictionary that stands in another under a key.
pub(super) fn entry<'a>(pdf: &'a Pdf, parent: &'a Dictionary, key: &[u8]) -> Option<&'a Dictionary> {
    dictionary(pdf, parent.get(key).ok()?)
}
