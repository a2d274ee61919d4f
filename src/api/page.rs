//! The page at `/` and its files, which are in the binary.

use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "dashboards/web/"]
struct Files;

/// The page loads nothing from elsewhere, runs no inline code and stands in no foreign frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The names of the files, for the table of routes.
pub const ASSETS: [&str; 8] =
    ["/app.js", "/chart.js", "/dom.js", "/format.js", "/outbox.js", "/silences.js", "/style.css", "/favicon.svg"];

/// `GET /` and the files that the page names.
pub async fn file(uri: Uri, headers: HeaderMap) -> Response {
    let name = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    let Some(file) = Files::get(name) else { return StatusCode::NOT_FOUND.into_response() };
    let media_type = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    // The tag is of the content: a new version of sidewatch is seen at once, an old one is not sent again.
    let hash = file.metadata.sha256_hash();
    let tag: String = std::iter::once('"'.into())
        .chain(hash[..8].iter().map(|byte| format!("{byte:02x}")))
        .chain(std::iter::once("\"".into()))
        .collect();
    let common = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, "no-cache".into()),
        (header::CONTENT_SECURITY_POLICY, POLICY.into()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
        (header::REFERRER_POLICY, "no-referrer".into()),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, media_type)], file.data).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_routed_and_nothing_is_loaded_from_elsewhere() {
        let mut names: Vec<String> = Files::iter().map(|name| format!("/{name}")).collect();
        names.retain(|name| name != "/index.html");
        names.sort();
        let mut routed = ASSETS.map(String::from);
        routed.sort();
        assert_eq!(names, routed);
        for name in Files::iter() {
            let text = String::from_utf8(Files::get(&name).unwrap().data.into_owned()).unwrap();
            let foreign = text.match_indices("http").filter(|(at, _)| {
                let rest = &text[*at..];
                (rest.starts_with("http://") || rest.starts_with("https://"))
                    && !rest.starts_with("http://www.w3.org/")
                    && !rest.starts_with("http://127.0.0.1")
            });
            assert_eq!(foreign.count(), 0, "{name} names an address elsewhere");
        }
    }
}
