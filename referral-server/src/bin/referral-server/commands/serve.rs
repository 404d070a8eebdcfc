//! Start, operation and graceful shutdown of the server.

use std::{
    future::pending,
    io::{self, IsTerminal, Write},
    mem,
    net::SocketAddr,
    pin::pin,
    process,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::FusedFuture as _};
use poem::{EndpointExt as _, Route, endpoint::make_sync, get};
use referral_core::{
    ReferralService, ReferralServiceBuilder,
    clock::{Clock as _, SystemClock},
    events::Hook,
    policy::{Budget, Regions, TestNumber},
    storage::Storage,
};
use referral_server::{AppOptions, ClientAddresses, Draining, Metrics, app, with_sources};
use referral_sqlx::{ConnectError, PostgresOptions, PostgresStorage, SqliteOptions, SqliteStorage};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::MissedTickBehavior,
};

use crate::{
    key_files,
    listener::{self, Server, endpoint::PlainUnavailable},
    log::DroppedLines,
    open_files,
    settings::{Settings, development, flags, gate::ConfiguredGate, policy::PolicyName},
    sms_config::Messages,
    test_numbers,
};

/// Interval between deletions of expired codes and sessions.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Interval between writes of the records of requests for codes. Support finds a request after this time.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Creates the `ReferralService` that the settings describe.
pub(crate) async fn build(
    settings: &Settings,
    messages: Messages,
    gate: Option<ConfiguredGate>,
    hook: impl Hook,
) -> Result<ReferralService> {
    let mut policy = settings.policy();
    policy.test_numbers = test_numbers::read(settings.sign_in.test_numbers.as_deref().unwrap_or_default())?;
    policy.check().map_err(|error| flags::in_place_of_fields(&error.to_string()))?;
    let (issuer, audience) = (&settings.tokens.issuer, &settings.tokens.audience);
    ReferralServiceBuilder::check_audience(issuer, audience)
        .map_err(|error| format!("--issuer (REFERRAL_ISSUER), --audience (REFERRAL_AUDIENCE): {error}"))?;
    // Before a database or a key file is created.
    key_files::check_present(settings)?;
    let Messages { sender, texts, .. } = messages;
    let storage = connect(settings).await?;
    key_files::make_missing(settings, &storage.registered_keys().await?)?;
    let (keys, peppers) = key_files::read(settings)?;
    let mut builder = ReferralService::builder(storage, sender, keys, peppers)
        .policy(policy)
        .message_templates(texts)
        .hook(Arc::new(hook))
        .issuer(issuer)
        .audience(audience);
    if let Some((gate, options)) = gate {
        builder = builder.gate(gate, options);
    }
    let referral = builder.build()?;
    referral.register_keys().await?;
    Ok(referral)
}

/// Opens the storage that the settings name, and creates or checks the data directory.
pub(crate) async fn connect(settings: &Settings) -> Result<Arc<dyn Storage>> {
    connect_with(settings, &settings.sqlite_options(), &settings.postgres_options()).await
}

/// Opens the storage like [`connect`], with other options of the databases.
pub(crate) async fn connect_with(
    settings: &Settings,
    sqlite: &SqliteOptions,
    postgres: &PostgresOptions,
) -> Result<Arc<dyn Storage>> {
    let data_dir = &settings.store.data_dir;
    match settings.store.database_url {
        None => key_files::create_data_dir(data_dir)?,
        Some(_) if settings.uses_data_dir() => key_files::check_data_dir(data_dir)?,
        Some(_) => {}
    }
    let storage =
        open(settings, sqlite, postgres).await.map_err(|error| match settings.store.database_url {
            Some(_) => format!("{}: {}", flags::with_variable("--database-url"), with_sources(&error)).into(),
            None => Box::<dyn std::error::Error>::from(error),
        })?;
    if settings.uses_data_dir() {
        key_files::create_data_dir(data_dir)?;
    }
    Ok(storage)
}

/// Opens the database that the settings name.
async fn open(
    settings: &Settings,
    sqlite: &SqliteOptions,
    postgres: &PostgresOptions,
) -> Result<Arc<dyn Storage>, ConnectError> {
    Ok(match &settings.store.database_url {
        Some(url) if settings.store.is_postgres() => Arc::new(PostgresStorage::connect(url, postgres).await?),
        Some(url) if url.starts_with("sqlite:") => Arc::new(SqliteStorage::connect(url, sqlite).await?),
        // `connect` rejects the URL with the reason.
        Some(url) => referral_sqlx::connect(url).await?,
        None => {
            let file = settings.store.data_dir.join("referral.db");
            Arc::new(SqliteStorage::open(&file, sqlite).await?)
        }
    })
}

/// Serves until a signal to stop and for the drain delay, and then until requests in flight have finished or
/// the shutdown time has passed.
pub(crate) async fn serve(settings: &Settings, dropped_lines: DroppedLines) -> Result<()> {
    let network = &settings.network;
    let client_addresses = network.client_addresses()?;
    development::reject_exposed(settings)?;
    warn_about_wide_proxies(settings);
    let metrics = Metrics::new();
    let at_sms = |error| format!("{}: {error}", flags::with_variable("--sms-config"));
    let sms = settings.sms_config().map_err(at_sms)?;
    let gateways = sms.as_ref().map(|sms| sms.names().join(", "));
    let mut messages = match sms {
        Some(sms) => Messages::new(sms, settings, metrics.clone()).map_err(at_sms)?,
        None => Messages::none(),
    };
    let gate = settings.gate()?;
    let report_readers = mem::take(&mut messages.report_readers);
    // This step is first, because it is the most likely to fail and leaves nothing behind.
    let listener = bind("--listen", network.listen).await?;
    let metrics_listener = match network.metrics_listen {
        Some(address) => Some(bind("--metrics-listen", address).await?),
        None => None,
    };
    let mut stop_signals = StopSignals::new()?;
    let hang_up = signal(SignalKind::hangup())?;
    let referral = build(settings, messages, gate, metrics.clone()).await?;
    if let Err(error) = referral.measure_clock().await {
        tracing::warn!(%error, "failed to read the clock of the database at the start");
    }
    if let Err(error) = referral.share_settings().await {
        tracing::warn!(%error, "failed to compare the settings with those of other processes at the start");
    }
    let metrics_address = metrics_listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let test_numbers = &referral.policy().test_numbers;
    test_numbers::warn(test_numbers, SystemClock.now());
    open_files::warn(settings);
    if let Err(error) =
        greet(settings, gateways.as_deref(), test_numbers, listener.local_addr()?, metrics_address)
    {
        tracing::warn!(%error, "failed to print the start-up summary");
    }
    if settings.sends_messages() {
        warn_of_costs(&referral);
    }

    tokio::spawn(run_maintenance(referral.clone()));
    tokio::spawn(flush_code_requests(referral.clone()));
    let mut options = AppOptions::default();
    if let Some(listener) = metrics_listener {
        options.metrics = Some(metrics.clone());
        let metrics = metrics.clone();
        let page = Route::new().at(
            "/metrics",
            get(make_sync(move |_| {
                metrics.set_log_lines_dropped(dropped_lines.total());
                metrics.page()
            })),
        );
        // The metrics are served until the process ends, so that they include the shutdown.
        let page = PlainUnavailable(page.map_to_response());
        let server = Server::new(page, network.limits(), ClientAddresses::default(), None);
        tokio::spawn(listener::serve(listener, server, pending()));
    }
    let draining = Draining::default();
    let stop = async {
        // Keys are also reloaded while draining: tokens of a new key must be accepted.
        let mut reloading = pin!(reload_keys(hang_up, &referral, settings).fuse());
        tokio::select! {
            _ = stop_signals.next() => {}
            () = &mut reloading => {}
        }
        tokio::spawn(async move { process::exit(stop_signals.next().await) });
        let mut draining = pin!(drain(&draining, network.drain_delay));
        tokio::select! {
            () = &mut draining => {}
            () = &mut reloading, if !reloading.is_terminated() => draining.await,
        }
        tracing::info!("shutting down");
    };
    options.draining = draining.clone();
    options.public_url.clone_from(&network.public_url);
    options.loopback_hosts_only = development::serves_loopback_only(settings);
    options.console = serves_console(settings);
    options.report_readers = report_readers;
    options.request_timeout = network.request_timeout;
    options.client_addresses = client_addresses.clone();
    options.cors_origins = network.cors_origins.clone().unwrap_or_default();
    let app = app(referral.clone(), options);
    let server =
        Server::new(app, network.limits(), client_addresses, Some(metrics)).draining(draining.clone());
    listener::serve(listener, server, stop).await;
    // Transactions that are still running are abandoned.
    let _ = tokio::time::timeout(network.shutdown_timeout, referral.close()).await;
    Ok(())
}

/// Returns `true` if the web console is served.
fn serves_console(settings: &Settings) -> bool {
    settings.network.admin_console.unwrap_or_else(|| development::serves_loopback_only(settings))
}

/// Serves requests while load balancers notice that this server is not ready.
async fn drain(draining: &Draining, delay: Duration) {
    draining.start();
    if !delay.is_zero() {
        tracing::info!(delay = %humantime::format_duration(delay), "draining");
        tokio::time::sleep(delay).await;
    }
}

async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "; stop the process that uses it, or give another port",
            io::ErrorKind::AddrNotAvailable => "; give an address of this host",
            io::ErrorKind::PermissionDenied => "; give a port of 1024 or more",
            _ => "",
        };
        format!("{}: failed to listen on {address}: {error}{advice}", flags::with_variable(flag))
    })
}

/// Logs a warning about trusted proxies that are given as too large a network.
fn warn_about_wide_proxies(settings: &Settings) {
    let Some(proxies) = &settings.network.trusted_proxies else { return };
    for block in proxies.wide_blocks() {
        tracing::warn!(
            %block,
            "--trusted-proxies has a network that is too large: any client in it can forge its address and so evade \
             all limits per address; name only the addresses of the proxies"
        );
    }
}

/// Logs a warning about settings that let attackers cause high costs for messages.
fn warn_of_costs(referral: &ReferralService) {
    let policy = referral.policy();
    if policy.regions == Some(Regions::All) {
        tracing::warn!(
            "codes are sent to all regions, and messages to some regions are expensive; name regions with --regions"
        );
    }
    if policy.messages_per_day == Some(Budget::Unlimited) {
        tracing::warn!("the number of messages per day is unlimited; set a limit with --messages-per-day");
    }
}

/// Prints the start-up summary: addresses, storage and gateways.
fn greet(
    settings: &Settings,
    gateways: Option<&str>,
    test_numbers: &[TestNumber],
    address: SocketAddr,
    metrics: Option<SocketAddr>,
) -> io::Result<()> {
    let url = format!("http://{address}");
    let mut out = io::stdout().lock();
    writeln!(out, "referral-server {} listens on {url}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  Swagger UI   {url}/docs/")?;
    writeln!(out, "  ReDoc        {url}/api/v1/redoc/")?;
    if serves_console(settings) {
        writeln!(out, "  Console      {url}/admin/")?;
    }
    if let Some(metrics) = metrics {
        writeln!(out, "  Metrics      http://{metrics}/metrics")?;
    }
    match &settings.store.database_url {
        None => writeln!(out, "  Data         {}", settings.store.data_dir.display())?,
        Some(url) => writeln!(out, "  Database     {}", url.split(':').next().unwrap_or_default())?,
    }
    if settings.policy_name() == PolicyName::Development {
        writeln!(out, "  Limits       almost no limits are enforced (--policy development)")?;
    }
    test_numbers::greet(&mut out, test_numbers, SystemClock.now())?;
    match gateways {
        Some(gateways) => writeln!(out, "  Messages     {gateways}")?,
        None => writeln!(
            out,
            "  Development  no messages are sent: codes are returned in responses, and any client can sign in as \
             any user"
        )?,
    }
    out.flush()
}

/// Deletes expired codes and sessions, and users after their grace period, at [`SWEEP_INTERVAL`].
async fn run_maintenance(referral: ReferralService) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match referral.run_maintenance().await {
            Ok(0) => {}
            Ok(deleted) => tracing::debug!(deleted, "deleted expired codes and sessions"),
            Err(error) => tracing::warn!(%error, "failed to delete expired codes and sessions"),
        }
    }
}

/// Writes the records of requests for codes at [`FLUSH_INTERVAL`].
async fn flush_code_requests(referral: ReferralService) {
    let mut ticks = tokio::time::interval(FLUSH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        referral.flush_code_requests().await;
    }
}

/// Reloads the keys at each SIGHUP. Returns if the signal was sent because the terminal of the process was
/// closed, so that the server stops like programs that do not handle SIGHUP.
async fn reload_keys(mut hang_up: Signal, referral: &ReferralService, settings: &Settings) {
    let had_terminal = io::stdin().is_terminal();
    while hang_up.recv().await.is_some() {
        if had_terminal && !io::stdin().is_terminal() {
            break;
        }
        if let Err(error) = replace_keys(referral, settings).await {
            let error = with_sources(&*error);
            tracing::error!(error, "failed to reload the keys, the previous keys stay in use");
        }
    }
}

async fn replace_keys(referral: &ReferralService, settings: &Settings) -> Result<()> {
    let (keys, peppers) = key_files::read(settings)?;
    let (key_ids, pepper_ids) = (format!("{keys:?}"), format!("{peppers:?}"));
    referral.replace_keys(keys, peppers).await?;
    tracing::info!(keys = %key_ids, peppers = %pepper_ids, "reloaded the keys");
    Ok(())
}

/// The signals to stop.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for a signal, and returns the exit code that shells report for a process ended by that signal.
    pub(crate) async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        128 + kind.as_raw_value()
    }
}
