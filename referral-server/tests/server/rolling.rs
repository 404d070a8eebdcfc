//! Tests a rolling restart of two instances behind nginx under load.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    keys::commanded,
    multi_host::server::Database,
    nginx::Nginx,
    program::{Program, directory},
    service::Client,
};

/// Number of concurrent clients.
const CLIENTS: usize = 4;

/// Number of requests that must succeed between two restarts, so that both instances serve some of them.
const PROGRESS: usize = 100;

/// Starts nginx in front of the servers. Its settings for upstreams are those of `docs/operations.md`.
fn start_nginx(directory: &Path, [one, other]: [SocketAddr; 2]) -> Nginx {
    let upstream = format!(
        "upstream referral {{
             server {one} max_fails=0;
             server {other} max_fails=0;
             keepalive 16;
             keepalive_timeout 1s;
         }}"
    );
    let location = "location / {
                        proxy_pass http://referral;
                        proxy_http_version 1.1;
                        proxy_set_header Connection \"\";
                        proxy_set_header Host $host;
                        proxy_set_header X-Forwarded-For $remote_addr;
                    }";
    Nginx::start(directory, Nginx::free_address(3), &upstream, location)
}

/// Load on the service, which runs until it is stopped.
#[derive(Clone, Default)]
struct Load {
    is_stopped: Arc<AtomicBool>,
    succeeded: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

impl Load {
    /// Signs in and refreshes, with one phone after another. Returns the first failure.
    async fn run(self, client: Client, number: usize) -> Result<(), String> {
        for user in 0.. {
            let phone = format!("+79608{number}{user:05}");
            let sent = self.post(&client, "/auth/send_code/", json!({ "phone": phone })).await?;
            let body = json!({ "phone": phone, "code": sent["code"], "challenge_id": sent["challenge_id"] });
            let mut tokens = self.post(&client, "/auth/jwt/get_by_phone/", body).await?;
            for _ in 0..3 {
                let body = json!({ "refresh": tokens["refresh"] });
                tokens = self.post(&client, "/auth/jwt/refresh/", body).await?;
            }
            if self.is_stopped.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    async fn post(&self, client: &Client, path: &str, body: Value) -> Result<Value, String> {
        let response = client.request(reqwest::Method::POST, path).json(&body).send().await;
        let response = response.map_err(|error| format!("{path}: {error:?}"))?;
        let (status, text) = (response.status(), response.text().await);
        let text = text.map_err(|error| format!("{path}: {status}: {error:?}"))?;
        if status != 200 {
            return Err(format!("{path}: {status}: {text}"));
        }
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error}: {text}"))
    }

    /// Waits until [`PROGRESS`] more requests have succeeded. Returns early if a client has failed.
    async fn progress(&self) {
        let goal = self.succeeded.load(Ordering::Relaxed) + PROGRESS;
        while self.succeeded.load(Ordering::Relaxed) < goal && !self.is_stopped.load(Ordering::Relaxed) {
            self.changed.notified().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_nginx_fails_no_request() {
    if !Nginx::is_installed("a rolling restart") {
        return;
    }
    let Some(database) = Database::create().await else { return };

    // The port of an instance must stay free while it restarts.
    let addresses = [1, 2].map(Nginx::free_address);
    let directories = [directory(), directory()];
    let keys = directory();
    let keys_dir = keys.path().join("data").to_str().expect("a path in UTF-8").to_owned();
    commanded(keys.path(), &["keys", "generate", "--data-dir", &keys_dir], &[]);
    let start = |number: usize| {
        let listen = addresses[number].to_string();
        let arguments = [
            "--listen",
            &listen,
            "--database-url",
            &database.url,
            "--data-dir",
            &keys_dir,
            "--drain-delay",
            "2s",
            "--return-codes-to-anyone",
            "--trusted-proxies",
            "127.0.0.0/8",
            "--client-address-header",
            "X-Forwarded-For",
        ];
        Program::start_at(directories[number].path(), &arguments)
    };
    let mut instances = [0, 1].map(|number| Some(start(number)));
    let nginx_folder = directory();
    let nginx = start_nginx(nginx_folder.path(), addresses);

    let load = Load::default();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (load, client) = (load.clone(), Client::new(nginx.address));
            tokio::spawn(async move {
                let result = load.clone().run(client, number).await;
                // The end of one client stops the other clients and the restarts.
                load.is_stopped.store(true, Ordering::Relaxed);
                load.changed.notify_one();
                result
            })
        })
        .collect();
    load.progress().await;
    for (number, instance) in instances.iter_mut().enumerate() {
        let log = instance.take().expect("the instance is running").stop();
        assert!(log.contains("draining delay=2s") && log.contains("shutting down"), "{log}");
        *instance = Some(start(number));
        load.progress().await;
    }
    load.is_stopped.store(true, Ordering::Relaxed);
    for client in clients {
        let log = || fs::read_to_string(nginx_folder.path().join("error.log")).unwrap_or_default();
        let result = client.await.expect("no panic");
        assert_eq!(result, Ok(()), "{}", log());
    }
}
