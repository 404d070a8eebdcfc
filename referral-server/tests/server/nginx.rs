//! nginx in front of the program.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Stdio},
};

use crate::program::tied;

const PROGRAM: &str = "/usr/sbin/nginx";

/// nginx process, which ends when the value is dropped.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    /// Returns `true` if nginx is installed. Otherwise the test of `what` is reported as skipped, or fails if all
    /// tests are required.
    pub(crate) fn is_installed(what: &str) -> bool {
        let is_installed = Path::new(PROGRAM).exists();
        if !is_installed {
            let message = format!("SKIPPED: {what}, because nginx is not installed (package `nginx-light`)");
            assert!(std::env::var_os("REFERRAL_TEST_REQUIRE_ALL").is_none(), "{message}");
            // A direct write, because the test harness captures the output of passing tests.
            let _ = writeln!(std::io::stderr(), "{message}");
        }
        is_installed
    }

    /// Returns an address that only this process uses.
    pub(crate) fn free_address(number: u8) -> SocketAddr {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(127, 64 | number, high, low), 8080))
    }

    /// Starts nginx with these blocks of `http` and `server`. Its files are in `directory`.
    pub(crate) fn start(directory: &Path, address: SocketAddr, http: &str, server: &str) -> Self {
        let config = format!(
            "daemon off;
             master_process off;
             pid nginx.pid;
             error_log error.log;
             events {{}}
             http {{
                 access_log off;
                 client_body_temp_path body;
                 proxy_temp_path proxy;
                 fastcgi_temp_path fastcgi;
                 uwsgi_temp_path uwsgi;
                 scgi_temp_path scgi;
                 {http}
                 server {{
                     listen {address};
                     {server}
                 }}
             }}"
        );
        fs::write(directory.join("nginx.conf"), config).expect("written");
        let mut command = tied(PROGRAM);
        command.arg("-p").arg(directory).args(["-c", "nginx.conf", "-e", "error.log"]);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        while TcpStream::connect(address).is_err() {
            let log = || fs::read_to_string(directory.join("error.log")).unwrap_or_default();
            assert!(child.try_wait().expect("a child").is_none(), "nginx ended: {}", log());
        }
        Self { child, address }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
