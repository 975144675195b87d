// SPDX-License-Identifier: Apache-2.0
//! Objects of a JSON schema that list their properties have no others, where nothing says that they may.
//!
//! The standard lets such an object have any others: a model that is free to go on writing properties often does, up to
//! the end of its tokens. What is left out answers the schema as well. Where schemas are combined (one object's
//! properties beside another's), closing one might leave nothing that answers both: such a schema stays as it is.

use serde_json::{Map, Value};

/// Of a subschema, each of these is another one.
const ONE: [&str; 4] = ["items", "additionalItems", "additionalProperties", "contains"];
const LISTS: [&str; 4] = ["items", "prefixItems", "anyOf", "oneOf"];
const MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Whatever stands beside one of these has to answer it, too.
const COMBINING: [&str; 11] = [
    "allOf", "if", "then", "else", "not", "dependentSchemas", "dependencies", "propertyNames", "unevaluatedProperties",
    "$dynamicRef", "$recursiveRef",
];
const CHOOSING: [&str; 3] = ["anyOf", "oneOf", "$ref"];
/// What says something of an object: beside a choice, the chosen one must answer it.
const OF_OBJECTS: [&str; 5] = ["properties", "required", "additionalProperties", "patternProperties", "minProperties"];

pub fn close_objects(schema: &mut Value) {
    let mut combines = false;
    visit(schema, &mut |fields| combines |= combines_schemas(fields));
    if !combines {
        visit(schema, &mut close);
    }
}

fn visit(schema: &mut Value, action: &mut impl FnMut(&mut Map<String, Value>)) {
    let Some(fields) = schema.as_object_mut() else { return };
    action(fields);
    for (name, value) in fields {
        let name = name.as_str();
        match value {
            Value::Array(list) if LISTS.contains(&name) => list.iter_mut().for_each(|one| visit(one, action)),
            Value::Object(map) if MAPS.contains(&name) => map.values_mut().for_each(|one| visit(one, action)),
            Value::Object(_) if ONE.contains(&name) => visit(value, action),
            _ => {}
        }
    }
}

fn combines_schemas(fields: &Map<String, Value>) -> bool {
    let has_any = |names: &[&str]| names.iter().any(|name| fields.contains_key(*name));
    has_any(&COMBINING) || has_any(&CHOOSING) && has_any(&OF_OBJECTS)
}

fn close(fields: &mut Map<String, Value>) {
    let says_more = ["additionalProperties", "patternProperties", "minProperties"].iter().any(|name| fields.contains_key(*name));
    let Some(properties) = fields.get("properties").and_then(Value::as_object) else { return };
    let required = fields.get("required").and_then(Value::as_array);
    let lists_all = required.into_iter().flatten().all(|name| name.as_str().is_some_and(|name| properties.contains_key(name)));
    if !says_more && lists_all {
        fields.insert("additionalProperties".into(), Value::Bool(false));
    }
}
