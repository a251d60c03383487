//! Who asks: passwords, tokens, and whom they are shown to.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use palisade_rootfs::Error;
use palisade_rootfs::registry::Login;

use crate::server::{Reply, Request, Server, reply};
use crate::{Packed, Scene, tar};

fn password(user: &str, password: &str) -> Login {
    Login::Password {
        user: user.to_owned(),
        password: password.to_owned(),
    }
}

fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

/// Asks for basic authentication.
fn guard(request: &Request) -> Option<Reply> {
    (request.header("authorization") != basic("me", "secret"))
        .then(|| reply(401, "").header("www-authenticate", "Basic realm=\"r\""))
}

/// A registry that wants a token, and the server that gives it.
fn with_tokens(answer: impl Fn(&Request) -> Reply + Send + 'static) -> (Server, Server) {
    let (server, tokens) = (Server::new(), Server::new());
    server
        .contents()
        .put("team/app", "1", &Packed::new(&[tar("a")]));
    tokens.hook(move |request, _| Some(answer(request)));
    let realm = tokens.address("/token");
    server.hook(move |request, _| {
        (request.header("authorization") != "Bearer good").then(|| {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"");
            reply(401, "").header("www-authenticate", challenge)
        })
    });
    (server, tokens)
}

#[test]
fn logging_in_keeps_what_is_good_and_nothing_else() {
    let (server, scene) = (Server::new(), Scene::new());
    server.contents().put("app", "1", &Packed::new(&[tar("a")]));
    server.hook(|request, _| guard(request));
    let host = server.name("").trim_end_matches('/').to_owned();
    let error = scene.refused(&server.name("app:1"));
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    let bad = scene.registries().login(&host, &password("me", "wrong"));
    assert!(matches!(bad, Err(Error::Denied { .. })), "{bad:?}");
    assert!(!scene.path(".docker/config.json").exists());
    scene
        .registries()
        .login(&host, &password("me", "secret"))
        .unwrap();
    assert_eq!(
        scene.registries().user(&host).unwrap().as_deref(),
        Some("me")
    );
    scene.pull(&server.name("app:1")).unwrap();
    assert!(scene.registries().logout(&host).unwrap());
    let scene_after = Scene::new();
    assert!(scene_after.pull(&server.name("app:1")).is_err());
}

#[test]
fn credentials_do_not_follow_a_redirection_to_another_host() {
    let (server, other, scene) = (Server::new(), Server::new(), Scene::new());
    let image = Packed::large();
    server.contents().put("app", "1", &image);
    other.contents().put("app", "1", &image);
    let to = other.address("");
    server.hook(move |request, _| {
        guard(request).or_else(|| {
            let blob = request.path.contains("/blobs/");
            blob.then(|| reply(307, "").header("location", format!("{to}{}", request.path)))
        })
    });
    let host = server.name("").trim_end_matches('/').to_owned();
    scene
        .registries()
        .login(&host, &password("me", "secret"))
        .unwrap();
    scene.pull(&server.name("app:1")).unwrap();
    let there = other.log("GET", "/blobs/");
    assert_eq!(there.len(), 3);
    for request in there {
        assert!(
            !request.headers.contains_key("authorization"),
            "{request:?}"
        );
    }
    // At home they are shown once they were asked for.
    assert!(
        server
            .log("GET", "/blobs/")
            .iter()
            .all(|r| !r.header("authorization").is_empty())
    );
}

#[test]
fn a_token_is_got_for_the_repository_and_shown_to_the_registry_alone() {
    let (server, tokens) = with_tokens(|_| reply(200, r#"{"token":"good","expires_in":60}"#));
    let scene = Scene::new();
    scene.write(
        ".docker/config.json",
        &format!(
            r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"{}"}}}}}}"#,
            server.port,
            BASE64_STANDARD.encode("me:secret")
        ),
    );
    scene.pull(&server.name("team/app:1")).unwrap();
    let asked = tokens.log("GET", "/token");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].path.contains("service=test"), "{}", asked[0].path);
    assert!(
        asked[0]
            .path
            .contains("scope=repository%3Ateam%2Fapp%3Apull"),
        "{}",
        asked[0].path
    );
    assert_eq!(asked[0].header("authorization"), basic("me", "secret"));
    // The password itself went to nobody else.
    for request in server.log("GET", "/") {
        assert!(
            !request.header("authorization").contains("Basic"),
            "{request:?}"
        );
    }
}

#[test]
fn a_token_is_got_without_credentials_too_and_with_a_refresh_token() {
    let (server, tokens) = with_tokens(|_| reply(200, r#"{"access_token":"good"}"#));
    Scene::new().pull(&server.name("team/app:1")).unwrap();
    assert_eq!(tokens.log("GET", "/token")[0].header("authorization"), "");
    let scene = Scene::new();
    scene.write(
        ".docker/config.json",
        &format!(
            r#"{{"auths":{{"127.0.0.1:{}":{{"identitytoken":"re fresh"}}}}}}"#,
            server.port
        ),
    );
    scene.pull(&server.name("team/app:1")).unwrap();
    let form = String::from_utf8(tokens.log("POST", "/token")[0].body.clone()).unwrap();
    assert!(
        form.contains("grant_type=refresh_token") && form.contains("refresh_token=re%20fresh"),
        "{form}"
    );
}

#[test]
fn a_token_that_has_grown_too_old_is_got_anew() {
    let (server, tokens) = with_tokens(|_| reply(200, r#"{"token":"good"}"#));
    let realm = tokens.address("/token");
    let mut uses = 0;
    server.hook(move |request, _| {
        uses += 1;
        (request.header("authorization") != "Bearer good" || uses == 4).then(|| {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"");
            reply(401, "").header("www-authenticate", challenge)
        })
    });
    Scene::new().pull(&server.name("team/app:1")).unwrap();
    assert_eq!(tokens.log("GET", "/token").len(), 2);
}

#[test]
fn a_token_server_that_lies_is_an_error_in_words() {
    let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(2 << 20));
    for (status, body) in [
        (200, "<html>"),
        (200, "{}"),
        (200, r#"{"token":""}"#),
        (200, r#"{"token":"a\r\nX-Evil: 1"}"#),
        (200, r#"{"token":7}"#),
        (200, long.as_str()),
        (200, r#"{"token":"not the one"}"#),
        (301, ""),
        (401, ""),
        (404, ""),
        (500, ""),
    ] {
        let body = body.to_owned();
        let (server, tokens) = with_tokens(move |_| {
            reply(status, body.clone()).header("location", "http://127.0.0.1:1/")
        });
        let error = Scene::new().refused(&server.name("team/app:1"));
        assert!(
            matches!(
                error,
                Error::Registry { .. } | Error::Denied { .. } | Error::Limit { .. }
            ),
            "{error:?}"
        );
        // It does not go round and round.
        assert!(server.requests() + tokens.requests() < 12);
    }
}

#[test]
fn a_challenge_that_cannot_be_understood_is_an_error_in_words() {
    for challenge in [
        "Bearer",
        "Bearer realm=\"ftp://x\"",
        "Negotiate",
        "Digest realm=\"x\"",
        "",
    ] {
        let (server, scene) = (Server::new(), Scene::new());
        server.hook(move |_, _| Some(reply(401, "").header("www-authenticate", challenge)));
        let error = scene.refused(&server.name("app:1"));
        assert!(
            matches!(error, Error::Registry { .. }),
            "{challenge}: {error:?}"
        );
    }
}
