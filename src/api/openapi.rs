//! `/openapi.json`: the description of every route, kept by hand and held to the routes by a test.

use super::error::json_text;
use axum::response::Response;
use http::StatusCode;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    include_str!("openapi.json").replacen("\"VERSION\"", concat!("\"", env!("CARGO_PKG_VERSION"), "\""), 1)
});

/// `GET /openapi.json`.
pub async fn document() -> Response {
    json_text(StatusCode::OK, DOCUMENT.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes;
    use serde_json::Value;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            described
                .extend(item.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let mut served = BTreeSet::new();
        for route in routes::table().into_iter().filter(|route| !crate::api::page::ASSETS.contains(&route.path)) {
            served.extend(route.methods.iter().map(|method| format!("{method} {}", route.path)));
        }
        assert_eq!(described, served);
    }

    #[test]
    fn references_lead_somewhere_and_every_parameter_of_a_path_is_described() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        for (at, _) in DOCUMENT.match_indices("\"$ref\": \"") {
            let reference = DOCUMENT[at + 9..].split('"').next().unwrap();
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let named: BTreeSet<&str> = operation["parameters"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                let in_path: BTreeSet<&str> =
                    path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
                assert_eq!(named, in_path, "{method} {path}");
            }
        }
    }
}
