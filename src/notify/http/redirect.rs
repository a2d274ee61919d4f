//! Redirects of a POST. After 301, 302 and 303 a client asks again with GET and without the body (RFC 9110, section 15.4;
//! "Fetch", HTTP-redirect fetch, step 12), and a page that answers that with 200 has received nothing. Only 307 and 308
//! repeat the request as it was: only those are followed.

use super::SECRET_BYTES;
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Response, Url};

/// How often one request is sent on.
const HOPS: usize = 10;

/// What a client that posts does about redirects: it follows those that repeat the request, or none (`refuse`).
pub fn post_redirects(refuse: bool) -> Policy {
    if refuse {
        return Policy::none();
    }
    Policy::custom(|attempt| {
        let repeats = matches!(attempt.status().as_u16(), 307 | 308);
        if repeats && attempt.previous().len() <= HOPS { attempt.follow() } else { attempt.stop() }
    })
}

/// What to do about an answer that is a redirect, with where it leads.
pub fn redirect_hint(asked: &Url, answer: &Response) -> Option<String> {
    if !answer.status().is_redirection() {
        return None;
    }
    let mut hint = "redirects are not followed here: write the final address".to_owned();
    let location = answer.headers().get(LOCATION).and_then(|value| answer.url().join(value.to_str().ok()?).ok());
    if let Some(location) = location {
        hint.push_str(&format!(", which is {}", shown(asked, &location)));
    }
    Some(hint)
}

/// Scheme, host and path; what of the path stood in the address that was asked may be a token.
fn shown(asked: &Url, location: &Url) -> String {
    let mut path = location.path().to_owned();
    for part in asked.path().split('/').filter(|part| part.len() >= SECRET_BYTES) {
        path = path.replace(part, "<secret>");
    }
    format!("{}{path}", location.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_redirect_leads_is_shown_without_secrets() {
        for (location, expected) in [
            ("https://new.example/hook", "https://new.example/hook"),
            ("https://u:pw@new.example:8443/a?token=t0ps3cret#x", "https://new.example:8443/a"),
            ("/v2/services/T0P53CR3T/", "http://old.example/v2/<secret>/<secret>/"),
        ] {
            let asked = Url::parse("http://old.example/services/T0P53CR3T?x=1").unwrap();
            assert_eq!(shown(&asked, &asked.join(location).unwrap()), expected);
        }
    }
}
