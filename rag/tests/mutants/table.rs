//! The conditions, and the source without them.

/// One change of the source: where `ON`, the condition is gone.
pub(crate) struct Mutant {
    pub(crate) what: &'static str,
    /// Below `rag/src`.
    pub(crate) file: &'static str,
    pub(crate) find: &'static str,
    pub(crate) replace: &'static str,
}

/// `find` is an expression; the other one stands for it where `ON`.
macro_rules! instead {
    ($what:literal, $file:literal, $find:literal, $other:literal) => {
        Mutant {
            what: $what,
            file: $file,
            find: $find,
            replace: concat!("(if ON { ", $other, " } else { ", $find, " })"),
        }
    };
}

pub(crate) const TABLE: &[Mutant] = &[
    instead!(
        "only rows of the tenant",
        "filter/mod.rs",
        "lookup.any(fields.tenant, std::slice::from_ref(&self.tenant))?",
        "RowSet::full(reader.max_doc())"
    ),
    instead!(
        "only rows that the filter lets through",
        "filter/mod.rs",
        "self.condition.as_ref().filter(|_| set.len() > 0)",
        "None"
    ),
    instead!(
        "no deleted rows",
        "filter/mod.rs",
        "reader.alive_bitset().filter(|_| set.len() > 0)",
        "None"
    ),
    instead!(
        "a tenant's own sets in the cache",
        "filter/mod.rs",
        "hash_bytes(&mut hasher, &tenant)",
        "()"
    ),
    instead!(
        "a filter's own sets in the cache",
        "filter/mod.rs",
        "condition.hash(&mut hasher)",
        "()"
    ),
    instead!(
        "all parts of `and`",
        "filter/mod.rs",
        "set.and(&self.rows(part)?)",
        "set"
    ),
    instead!(
        "any part of `or`",
        "filter/mod.rs",
        "set.or(&self.rows(part)?)",
        "set"
    ),
    instead!(
        "the opposite of `not`",
        "filter/mod.rs",
        "RowSet::full(rows).without(&self.rows(part)?)",
        "RowSet::full(rows)"
    ),
    instead!(
        "documents by the tenant's own id",
        "filter/mod.rs",
        "DocumentKey::prefix(self.scope, id)",
        "DocumentKey::prefix(&Scope::local(), id)"
    ),
    instead!(
        "a segment's own sets in the cache",
        "filter/cache.rs",
        "reader.segment_id()",
        "SegmentId::from_uuid_string(\"00000000000000000000000000000000\").expect(\"an id\")"
    ),
    instead!(
        "new sets after deletes",
        "filter/cache.rs",
        "reader.delete_opstamp()",
        "None"
    ),
    instead!(
        "allowed rows by words",
        "lexical/terms.rs",
        "allowed.words()",
        "&*vec![u64::MAX; allowed.words().len()].leak()"
    ),
    instead!(
        "given rows among those that score enough",
        "best.rs",
        "word & kernels.reached(scores, bar)",
        "kernels.reached(scores, bar)"
    ),
    instead!(
        "allowed rows by a query of tantivy's",
        "lexical/search.rs",
        "allowed.contains(row)",
        "true"
    ),
    instead!(
        "allowed rows of an expression",
        "lexical/search.rs",
        "allowed.contains(**row)",
        "true"
    ),
    instead!(
        "allowed rows of a name",
        "lexical/exact.rs",
        "allowed.contains(row)",
        "true"
    ),
    instead!(
        "the filter of a document's own id",
        "collection/rank.rs",
        "allowed.contains(*row)",
        "true"
    ),
    instead!(
        "allowed rows of a count of words",
        "collection/terms.rs",
        "allowed.contains(row)",
        "true"
    ),
    instead!(
        "allowed rows of a scan",
        "vector/scan.rs",
        "bits & file.presence_word(at + word)",
        "file.presence_word(at + word)"
    ),
    instead!(
        "allowed rows of a walk",
        "vector/search.rs",
        "allowed.contains(row)",
        "true"
    ),
    instead!(
        "a filtered walk where not all are allowed",
        "vector/search.rs",
        "told.allowed < file.present()",
        "false"
    ),
    instead!(
        "a walk's first row is allowed",
        "vector/walk.rs",
        "is_allowed(layer.row(start.node()))",
        "true"
    ),
    instead!(
        "a walk's next rows are allowed",
        "vector/walk.rs",
        "is_allowed(rows[at])",
        "true"
    ),
    Mutant {
        what: "a handle's own scope",
        file: "collection/mod.rs",
        find: "            inner: Arc::clone(&self.inner),\n            scope,\n",
        replace: "            inner: Arc::clone(&self.inner),\n            scope: if ON { self.scope.clone() } else { scope },\n",
    },
    instead!(
        "the tenant of every search, count and delete",
        "collection/mod.rs",
        "Restriction::new(scope, filter)?",
        "Restriction::new(&Scope::local(), filter)?"
    ),
    instead!(
        "the filter of a count",
        "collection/mod.rs",
        "inner.allowed(snapshot, scope, filter.as_ref())?",
        "inner.allowed(snapshot, scope, None)?"
    ),
    instead!(
        "the filter of a delete",
        "collection/mod.rs",
        "inner.allowed(snapshot, scope, Some(&filter))?",
        "inner.allowed(snapshot, scope, None)?"
    ),
    Mutant {
        what: "the tenant's own list of documents",
        file: "collection/mod.rs",
        find: "let prefix = DocumentKey::tenant_prefix(scope);",
        replace: "let prefix = if ON { Vec::new() } else { DocumentKey::tenant_prefix(scope) };",
    },
    instead!(
        "the tenant's own version of a document",
        "collection/mod.rs",
        "DocumentKey::prefix(scope, id)",
        "DocumentKey::prefix(&Scope::local(), id)"
    ),
    instead!(
        "the filter of a search",
        "collection/search.rs",
        "inner.allowed(snapshot, scope, ask.query.filter.as_ref())?",
        "inner.allowed(snapshot, scope, None)?"
    ),
    instead!(
        "the filter of a vector reader",
        "collection/vectors.rs",
        "inner.allowed(&snapshot, &collection.scope, filter.as_ref())?",
        "inner.allowed(&snapshot, &collection.scope, None)?"
    ),
    instead!(
        "a vector reader's own neighbours",
        "collection/vectors.rs",
        "rows.contains(neighbour.row)",
        "true"
    ),
    instead!(
        "the tenant's own vectors in its sizes",
        "collection/stats.rs",
        "inner.allowed(snapshot, scope, None)?",
        "inner.allowed(snapshot, &stepwell_core::Scope::local(), None)?"
    ),
    instead!(
        "the tenant's own documents in its sizes",
        "collection/stats.rs",
        "inner.entries(snapshot, scope)?",
        "inner.entries(snapshot, &stepwell_core::Scope::local())?"
    ),
    Mutant {
        what: "the tenant's own files in a sync",
        file: "collection/facts.rs",
        find: "let prefix = DocumentKey::tenant_prefix(scope);",
        replace: "let prefix = if ON { Vec::new() } else { DocumentKey::tenant_prefix(scope) };",
    },
    instead!(
        "a document unchanged for its tenant alone",
        "collection/planned.rs",
        "key.term(&collection.scope)",
        "key.term(&stepwell_core::Scope::local())"
    ),
    instead!(
        "a document written for its tenant",
        "collection/add.rs",
        "document.key.term(scope)",
        "document.key.term(&stepwell_core::Scope::local())"
    ),
    instead!(
        "chunks written for their tenant",
        "schema.rs",
        "document.add_bytes(fields.tenant, scope.tenant().as_bytes())",
        "document.add_bytes(fields.tenant, b\"local\".as_slice())"
    ),
    instead!(
        "a tenant's name ends where it ends",
        "schema.rs",
        "push_sized(&mut bytes, scope.tenant().as_bytes())",
        "bytes.extend_from_slice(scope.tenant().as_bytes())"
    ),
    instead!(
        "an id ends where it ends",
        "schema.rs",
        "push_sized(&mut bytes, id.as_bytes())",
        "bytes.extend_from_slice(id.as_bytes())"
    ),
    instead!(
        "a filtered delete takes documents with allowed rows alone",
        "collection/mod.rs",
        "rows.iter().any(|row| allowed[segment].contains(*row))",
        "true"
    ),
];

/// Two locks on one door: a filtered delete looks at the tenant's documents alone, and takes those of them with rows
/// that tenant and filter let through. The second is in the table above; without the first it only looks at more.
pub(crate) const ALIKE: &[Mutant] = &[Mutant {
    what: "a filtered delete looks at the tenant's documents alone",
    file: "collection/mod.rs",
    find: "&DocumentKey::tenant_prefix(scope),",
    replace: "&if ON { Vec::new() } else { DocumentKey::tenant_prefix(scope) },",
}];
