//! The OpenAPI document of the JSON API, made from one table of addresses and the shapes of their answers.
//!
//! Kept true by a test: it asks every address of the route list that lies under `/api/` and compares each answer with
//! its shape here, member by member.

use doorward_core::gate_decision::Ground;
use doorward_core::membership::Role;
use serde_json::{Map, Value, json};

use super::CALLS_A_MINUTE;

/// One parameter of an address.
struct Parameter {
    name: &'static str,
    required: bool,
    schema: fn() -> Value,
    about: &'static str,
}

/// One address below `/api/organizations/{org}/`.
struct Operation {
    /// Its last segment, which is its scope too.
    name: &'static str,
    about: &'static str,
    parameters: &'static [Parameter],
    answer: fn() -> Value,
    refusals: &'static [(u16, &'static str)],
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "decision",
        about: "What the gate would answer to a request for one of the organization's targets, and why.",
        parameters: &[
            Parameter {
                name: "url",
                required: true,
                schema: text,
                about: "The whole address, as browsers send it.",
            },
            Parameter {
                name: "method",
                required: false,
                schema: text,
                about: "The request's method; GET unless given.",
            },
            Parameter {
                name: "account",
                required: false,
                schema: text,
                about: "The account that is signed in; nobody is unless given.",
            },
            Parameter {
                name: "sso",
                required: false,
                schema: || one_of(&["complete", "missing", "none"]),
                about: "Which single sign-on to suppose; the account's last unless given.",
            },
            Parameter {
                name: "client",
                required: false,
                schema: || one_of(&["browser", "program"]),
                about: "Whether a browser's address bar waits for the answer, or a program.",
            },
        ],
        answer: explanation,
        refusals: &[
            (404, "The address is not one of this organization's."),
            (422, "A parameter is missing, unknown or too long."),
        ],
    },
    Operation {
        name: "members",
        about: "Members by name, in pages.",
        parameters: &[Parameter {
            name: "after",
            required: false,
            schema: text,
            about: "`next` of the page before.",
        }],
        answer: || {
            let member = object(&[
                ("account", text()),
                ("name", text()),
                ("full_name", text()),
                ("role", roles()),
                ("external_collaborator", flag()),
            ]);
            object(&[("members", list(member)), ("next", or_null(text()))])
        },
        refusals: &[(422, "A parameter is unknown or too long.")],
    },
    Operation {
        name: "resources",
        about: "Resources that are registered; every other one is private.",
        parameters: &[],
        answer: || {
            let resource = object(&[("prefix", text()), ("name", text()), ("public", flag())]);
            object(&[("resources", list(resource))])
        },
        refusals: &[],
    },
    Operation {
        name: "audit-log",
        about: "Events of the audit log in their order, in pages, each as `doorward audit export` writes it.",
        parameters: &[Parameter {
            name: "after",
            required: false,
            schema: number,
            about: "`next` of the page before.",
        }],
        answer: || {
            let actor = object(&[("kind", text()), ("id", or_null(text())), ("name", text())]);
            let event = object(&[
                ("organization", text()),
                ("scope", text()),
                ("sequence", number()),
                ("at", or_null(text())),
                ("action", text()),
                ("actor", actor),
                ("details", json!({ "type": "object", "additionalProperties": true })),
                ("address", or_null(text())),
                ("request_id", or_null(text())),
                ("hash", or_null(text())),
                ("mac", or_null(text())),
            ]);
            object(&[("events", list(event)), ("next", or_null(number()))])
        },
        refusals: &[(422, "A parameter is unknown or no number.")],
    },
];

fn text() -> Value {
    json!({ "type": "string" })
}

fn number() -> Value {
    json!({ "type": "integer" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

fn roles() -> Value {
    one_of(&Role::ALL.map(Role::as_str))
}

fn list(of: Value) -> Value {
    Value::from_iter([("type", json!("array")), ("items", of)])
}

fn or_null(schema: Value) -> Value {
    json!({ "oneOf": vec![schema, json!({ "type": "null" })] })
}

/// An object with exactly these members.
fn object(members: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "required": names, "properties": properties, "additionalProperties": false })
}

/// `gate::explain::Explanation`.
fn explanation() -> Value {
    let refused = object(&[
        ("cause", text()),
        ("character", or_null(text())),
        ("at", or_null(number())),
        ("segment", or_null(text())),
    ]);
    let resource = object(&[("prefix", text()), ("name", text()), ("public", flag())]);
    let rule = object(&[("methods", list(text())), ("path", text()), ("role", roles())]);
    let target = object(&[
        ("path", text()),
        ("public_pattern", or_null(text())),
        ("organization_pattern", or_null(text())),
        ("organization", or_null(text())),
        ("resource", or_null(resource)),
        ("needed_role", roles()),
        ("rule", or_null(rule)),
        ("unowned", one_of(&["deny", "signed_in", "allow"])),
    ]);
    let organization = object(&[
        ("name", text()),
        ("state", one_of(&["there", "deleted", "unknown"])),
        ("sso", one_of(&["off", "optional", "enforced"])),
        ("session_timeout", or_null(number())),
    ]);
    let sso_session = object(&[
        ("authenticated_at", or_null(text())),
        ("ends_at", or_null(text())),
        ("under_live_settings", flag()),
    ]);
    let account = object(&[
        ("name", text()),
        ("switched_off", flag()),
        ("role", or_null(roles())),
        ("external_collaborator", flag()),
        ("sso_session", or_null(sso_session)),
    ]);
    let answer = object(&[
        ("status", number()),
        ("code", or_null(text())),
        ("location", or_null(text())),
        ("organization", text()),
        ("role", text()),
        ("sso", one_of(&["complete", "missing", ""])),
    ]);
    let grounds: Vec<&str> = ["method", "upgrade", "ambiguous_path", "handover"]
        .into_iter()
        .chain(Ground::ALL.map(Ground::as_str))
        .collect();
    object(&[
        ("application", text()),
        ("method", text()),
        ("path", text()),
        ("refused", or_null(refused)),
        ("target", or_null(target)),
        ("organization", or_null(organization)),
        ("account", or_null(account)),
        ("decision", one_of(&["allow", "authenticate", "deny", "refuse"])),
        ("step", number()),
        ("ground", one_of(&grounds)),
        ("reason", text()),
        ("answer", answer),
    ])
}

/// An RFC 9457 problem document, as every refusal is.
fn problem() -> Value {
    object(&[
        ("type", text()),
        ("title", text()),
        ("status", number()),
        ("detail", text()),
        ("code", text()),
        ("next_step", text()),
        ("request_id", text()),
    ])
}

fn refusal(about: &str) -> Value {
    json!({
        "description": about,
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}

/// The whole document. `server`: the base URL.
pub fn document(server: &str) -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let mut parameters = vec![json!({ "$ref": "#/components/parameters/org" })];
        parameters.extend(operation.parameters.iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "in": "query",
                "required": parameter.required,
                "schema": (parameter.schema)(),
                "description": parameter.about,
            })
        }));
        let mut responses = Map::new();
        let shape = json!({
            "description": operation.about,
            "content": { "application/json": { "schema": (operation.answer)() } },
        });
        responses.insert("200".to_owned(), shape);
        let common = [
            (401, "No token, or not a good one of this organization."),
            (403, "The token's scopes don't cover this."),
            (429, "Too many calls with this token; `Retry-After` says when to come back."),
            (503, "The store can't be reached; `Retry-After` says when to come back."),
        ];
        for (status, about) in common.into_iter().chain(operation.refusals.iter().copied()) {
            responses.insert(status.to_string(), refusal(about));
        }
        let get = json!({
            "operationId": operation.name,
            "summary": operation.about,
            "description": format!("Needs a token with the scope `{}`.", operation.name),
            "parameters": parameters,
            "responses": responses,
        });
        paths.insert(format!("/api/organizations/{{org}}/{}", operation.name), json!({ "get": get }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Doorward",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "What an organization's own programs may read with its token, at most {CALLS_A_MINUTE} times a minute. \
                 Nothing here changes anything."
            ),
        },
        "servers": [{ "url": server }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the organization, from `doorward token create`; it begins with dwo_.",
                },
            },
            "parameters": {
                "org": {
                    "name": "org",
                    "in": "path",
                    "required": true,
                    "schema": text(),
                    "description": "The organization's name.",
                },
            },
            "schemas": { "Problem": problem() },
        },
    })
}
