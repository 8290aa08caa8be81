//! `GET /v1/openapi.json`: what is served here, as an OpenAPI 3.1 document made from the handlers' own annotations.
//!
//! Stands beside the way: for those who write clients, and for the test that sends whatever the document allows. Routes that
//! are served only with an issuer or the built-in one are in it always.

use axum::Json;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, ObjectBuilder, PathItem, Ref, RefOr, Required, Response, Type};
use utoipa::{Modify, OpenApi};

use crate::{graph, receipts, v1};

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Herald",
        description = "Push notification delivery: notifications as Microsoft Graph took them, and what phones and operators \
                       need besides. Every refusal has Graph's envelope.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        crate::health::live,
        crate::health::ready,
        crate::health::metrics,
        crate::openapi::document,
        crate::tokens::token,
        crate::tokens::discovery,
        crate::tokens::tenants_discovery,
        crate::tokens::keys,
        receipts::post,
        graph::served::post,
        graph::served::list,
        graph::served::count,
        graph::served::delta,
        graph::served::item,
        graph::served::patch,
        graph::served::delete,
        v1::subscriptions::register,
        v1::subscriptions::list,
        v1::subscriptions::show,
        v1::subscriptions::change,
        v1::subscriptions::end,
        v1::traces::show,
        v1::traces::find,
        v1::erasure::erase,
    ),
    components(schemas(crate::refusal::Envelope<'static>)),
    modifiers(&Bearer, &Refusals, &Roots)
)]
struct Annotated;

/// Serves the document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "operators", responses((status = 200, description = "This document")))]
pub(crate) async fn document() -> Json<Document> {
    Json(Annotated::openapi())
}

/// How tokens are sent.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let what = "A token of an app's service or of a user, by an issuer of herald.toml; or the operator's.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(what)).build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// What every route has in common: a rate where a token is asked for, and one shape of refusals.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, document: &mut Document) {
        let body = || ContentBuilder::new().schema(Some(Ref::from_schema_name("Envelope"))).build();
        for item in document.paths.paths.values_mut() {
            for operation in operations(item) {
                let responses = &mut operation.responses.responses;
                if operation.security.is_some() {
                    for status in ["406", "429"] {
                        let what = "the app sends more than its rate: come back after Retry-After";
                        responses.insert(status.to_owned(), Response::new(what).into());
                    }
                }
                for (_, response) in responses.iter_mut().filter(|(status, _)| status.as_str() >= "400") {
                    if let RefOr::T(response) = response
                        && response.content.is_empty()
                    {
                        response.content.insert("application/json".to_owned(), RefOr::T(body()));
                    }
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().filter_map(Option::as_mut)
}

/// What is described at `/beta/me` is served at `/beta/users/{user}` and under `/v1.0` too.
struct Roots;

impl Modify for Roots {
    fn modify(&self, document: &mut Document) {
        let described: Vec<(String, PathItem)> = document
            .paths
            .paths
            .iter()
            .filter_map(|(path, item)| Some((path.strip_prefix("/beta/me")?.to_owned(), item.clone())))
            .collect();
        for (path, item) in described {
            for (root, name) in
                [("/v1.0/me", "V1"), ("/beta/users/{user}", "OfUser"), ("/v1.0/users/{user}", "OfUserV1")]
            {
                document.paths.paths.insert(format!("{root}{path}"), at(item.clone(), name, root.contains("{user}")));
            }
        }
    }
}

/// The same operations at another place; ids of operations are unique.
fn at(mut item: PathItem, name: &str, of_user: bool) -> PathItem {
    for operation in operations(&mut item) {
        operation.operation_id = operation.operation_id.take().map(|id| format!("{id}{name}"));
        if of_user {
            let user = ParameterBuilder::new()
                .name("user")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("the user, by the name that the app gave when it subscribed"))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
                .build();
            operation.parameters.get_or_insert_default().push(user.into());
        }
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_root_is_described_and_every_operation_has_an_id_of_its_own() {
        let document = serde_json::to_value(Annotated::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        for root in ["/beta/me", "/v1.0/me", "/beta/users/{user}", "/v1.0/users/{user}"] {
            for (path, methods) in [
                ("", &["get", "post"][..]),
                ("/$count", &["get"]),
                ("/delta", &["get"]),
                ("/{id}", &["get", "patch", "delete"]),
            ] {
                for method in methods {
                    let operation = &paths[&format!("{root}/notifications{path}")][method];
                    assert!(
                        ["200", "201", "204"].iter().any(|good| operation["responses"][good].is_object()),
                        "{root} {path} {method}"
                    );
                }
            }
        }
        let ids: Vec<&str> = paths
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        let unique: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), unique.len(), "{ids:?}");
    }
}
