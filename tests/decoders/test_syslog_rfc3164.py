"""The decoder `syslog` on RFC 3164 as it really comes."""

from __future__ import annotations

import datetime as dt
import logging.handlers
import time as clock
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver import options
from eventserver.decoders._syslog_grammar import read_line
from eventserver.decoders._timestamps import YearRule
from eventserver.decoders.syslog import SyslogDecoder, SyslogOptions
from eventserver.event import Event
from eventserver.testing.decoders import RECEIVED, batch

PRIORITY_KEYS = ("facility", "facility_code", "severity", "severity_code")


def decode(line: str | bytes, received: dt.datetime = RECEIVED, **settings: Any) -> Event:
    data = line.encode() if isinstance(line, str) else line
    [event] = SyslogDecoder(SyslogOptions(**settings)).decode(batch(data, received=received))
    return event


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


#: Line, time ("" is that of receipt), message, and the fields besides the priority's.
Row = tuple[str, str, str, dict[str, Any]]

TEN = "2026-11-22 10:00:00"

CISCO: list[Row] = [
    ("<189>29: *Mar  1 18:46:11.123: %SYS-5-CONFIG_I: Configured from console by vty2 (10.34.195.36)",
     "2026-03-01 18:46:11.123", "Configured from console by vty2 (10.34.195.36)",
     {"sequence": 29, "msgid": "%SYS-5-CONFIG_I"}),
    ("<189>123: *Mar  1 18:46:11.123 UTC: %SYS-5-CONFIG_I: Configured from console",
     "2026-03-01 18:46:11.123", "Configured from console", {"sequence": 123, "msgid": "%SYS-5-CONFIG_I"}),
    ("<189>123: Mar  1 18:46:11.123 CET: %SYS-5-CONFIG_I: the zone of an abbreviation is the setting's",
     "2026-03-01 18:46:11.123", "the zone of an abbreviation is the setting's",
     {"sequence": 123, "msgid": "%SYS-5-CONFIG_I"}),
    ("<189>50: Nov 22 10:00:00.123 +0100: %SYS-5-RESTART: System restarted --",
     "2026-11-22 09:00:00.123", "System restarted --", {"sequence": 50, "msgid": "%SYS-5-RESTART"}),
    ("<187>79: router1: .Nov 22 10:00:00.456 UTC: %LINK-3-UPDOWN: Interface Gi0/1, changed state to up",
     TEN + ".456", "Interface Gi0/1, changed state to up",
     {"sequence": 79, "hostname": "router1", "msgid": "%LINK-3-UPDOWN"}),
    ("<189>31: sw-core: 000124: Nov 22 10:00:00: %LINEPROTO-5-UPDOWN: Line protocol on Vlan10, changed state to down",
     TEN, "Line protocol on Vlan10, changed state to down",
     {"sequence": 124, "hostname": "sw-core", "msgid": "%LINEPROTO-5-UPDOWN"}),
    ("<189>42: 1w0d: %LINK-3-UPDOWN: Interface Serial0, changed state to down",
     "", "Interface Serial0, changed state to down", {"sequence": 42, "uptime": "1w0d", "msgid": "%LINK-3-UPDOWN"}),
    ("<189>43: 2d03h: %SYS-5-CONFIG_I: Configured", "", "Configured",
     {"sequence": 43, "uptime": "2d03h", "msgid": "%SYS-5-CONFIG_I"}),
    ("<189>44: 00:01:14: %SYS-6-BOOTTIME: Time taken to reboot after reload = 74 seconds",
     "", "Time taken to reboot after reload = 74 seconds",
     {"sequence": 44, "uptime": "00:01:14", "msgid": "%SYS-6-BOOTTIME"}),
    ("<187>000045: %SYS-3-CPUHOG: Task ran for 2148 msec", "", "Task ran for 2148 msec",
     {"sequence": 45, "msgid": "%SYS-3-CPUHOG"}),
    ("<190>2048: router2 RP/0/RSP0/CPU0:Nov 22 10:00:00.123 UTC: sshd[65812]: %SECURITY-SSHD-6-INFO_SUCCESS : User 'a'",
     TEN + ".123", "User 'a'",
     {"sequence": 2048, "hostname": "router2", "node": "RP/0/RSP0/CPU0", "app_name": "sshd", "procid": "65812",
      "msgid": "%SECURITY-SSHD-6-INFO_SUCCESS"}),
    ("<189>: 2026 Nov 22 10:00:00.123 UTC: %ETHPORT-5-IF_DOWN_LINK_FAILURE: Interface Ethernet1/1 is down",
     TEN + ".123", "Interface Ethernet1/1 is down", {"msgid": "%ETHPORT-5-IF_DOWN_LINK_FAILURE"}),
    ("<166>Nov 22 2026 10:00:00: %ASA-6-302013: Built outbound TCP connection 1 for outside:192.0.2.1/443",
     TEN, "Built outbound TCP connection 1 for outside:192.0.2.1/443", {"msgid": "%ASA-6-302013"}),
    ("<166>Nov 22 2026 10:00:00 fw01 : %ASA-6-302014: Teardown TCP connection 1",
     TEN, "Teardown TCP connection 1", {"hostname": "fw01", "msgid": "%ASA-6-302014"}),
    ("<166>2026-11-22T10:00:00Z fw01 : %ASA-6-302014: Teardown TCP connection 1",
     TEN, "Teardown TCP connection 1", {"hostname": "fw01", "msgid": "%ASA-6-302014"}),
    ("<166>:Nov 22 10:00:00 UTC: %ASA-session-6-305012: Teardown dynamic TCP translation",
     TEN, "Teardown dynamic TCP translation", {"msgid": "%ASA-session-6-305012"}),
    ("<164>%ASA-4-106023: Deny tcp src outside:192.0.2.1/1024", "", "Deny tcp src outside:192.0.2.1/1024",
     {"msgid": "%ASA-4-106023"}),
]  # fmt: skip

DEVICES: list[Row] = [
    # Juniper: two spaces, milliseconds, and the year behind the time
    ("<38>Nov 22 10:00:00 mx240 sshd[1234]: Accepted password for admin", TEN, "Accepted password for admin",
     {"hostname": "mx240", "app_name": "sshd", "procid": "1234"}),
    ("<30>Nov 22 10:00:00  ex4300 mgd[1163]: UI_CMDLINE_READ_LINE: User 'root'", TEN,
     "UI_CMDLINE_READ_LINE: User 'root'", {"hostname": "ex4300", "app_name": "mgd", "procid": "1163"}),
    ("<28>Nov 22 10:00:00.401 2025 srx rpd[1400]: BGP_RECV: read", "2025-11-22 10:00:00.401", "BGP_RECV: read",
     {"hostname": "srx", "app_name": "rpd", "procid": "1400"}),
    ("<14>Nov 22 10:00:00 srx240 RT_FLOW: RT_FLOW_SESSION_CREATE: session created", TEN,
     "RT_FLOW_SESSION_CREATE: session created", {"hostname": "srx240", "app_name": "RT_FLOW"}),
    # VMware ESXi
    ("<166>2026-11-22T10:00:00.123Z esx1.example.com Hostd: info hostd[2099512] [Originator@6876 sub=Vim] Event",
     TEN + ".123", "info hostd[2099512] [Originator@6876 sub=Vim] Event",
     {"hostname": "esx1.example.com", "app_name": "Hostd"}),
    ("<14>2026-11-22T10:00:00.123Z esx1 vmkernel: cpu3:2097642)ScsiDeviceIO: 4176: Cmd 0x1a",
     TEN + ".123", "cpu3:2097642)ScsiDeviceIO: 4176: Cmd 0x1a", {"hostname": "esx1", "app_name": "vmkernel"}),
    # Ubiquiti, MikroTik, Fortinet, Palo Alto, Meraki, Synology, Snare on Windows
    ("<30>Nov 22 10:00:00 U7PG2,788a20aabbcc,v4.3.20.11298: hostapd: ath0: STA aa:bb associated", TEN,
     "hostapd: ath0: STA aa:bb associated", {"app_name": "U7PG2,788a20aabbcc,v4.3.20.11298"}),
    ("<4>Nov 22 10:00:00 UDM kernel: [WAN_LOCAL-default-D]IN=eth8 OUT= MAC=aa", TEN,
     "[WAN_LOCAL-default-D]IN=eth8 OUT= MAC=aa", {"hostname": "UDM", "app_name": "kernel"}),
    ("<30>system,info,account user admin logged in from 192.0.2.9 via ssh", "",
     "system,info,account user admin logged in from 192.0.2.9 via ssh", {}),
    ("<30>Nov 22 10:00:00 MikroTik user admin logged in from 192.0.2.9", TEN,
     "user admin logged in from 192.0.2.9", {"hostname": "MikroTik"}),
    ('<189>date=2026-11-22 time=10:00:00 devname="FGT60E" type="traffic"', "",
     'date=2026-11-22 time=10:00:00 devname="FGT60E" type="traffic"', {}),
    ("<14>Nov 22 10:00:00 PA-220 1,2026/11/22 10:00:00,0011,TRAFFIC,end", TEN,
     "1,2026/11/22 10:00:00,0011,TRAFFIC,end", {"hostname": "PA-220"}),
    ("<134>1 1795341600.774247467 MX84 ids-alerts signature=1", "",
     "1 1795341600.774247467 MX84 ids-alerts signature=1", {}),
    ("<13>Nov 22 10:00:00 nas.local synoscgi_SYNO[22]: User login", TEN, "User login",
     {"hostname": "nas.local", "app_name": "synoscgi_SYNO", "procid": "22"}),
    ("<14>Nov 22 10:00:00 WIN-DC1 MSWinEventLog\t1\tSecurity\t1234", TEN, "MSWinEventLog\t1\tSecurity\t1234",
     {"hostname": "WIN-DC1"}),
]  # fmt: skip

PROGRAMS: list[Row] = [
    # rsyslog: RSYSLOG_TraditionalForwardFormat, RSYSLOG_ForwardFormat, and lines of files without a priority
    ("<13>Nov 22 10:00:00 web1 root: hello", TEN, "hello", {"hostname": "web1", "app_name": "root"}),
    ("<86>2026-11-22T11:00:00.123456+01:00 web1 sshd[2812]: pam_unix(sshd:session): session opened", TEN + ".123456",
     "pam_unix(sshd:session): session opened", {"hostname": "web1", "app_name": "sshd", "procid": "2812"}),
    ('<46>2026-11-22T10:00:00Z web1 rsyslogd: [origin software="rsyslogd"] start', TEN,
     '[origin software="rsyslogd"] start', {"hostname": "web1", "app_name": "rsyslogd"}),
    ("2026-11-22T10:00:00.123456+00:00 web1 sshd[1]: a file's line", TEN + ".123456", "a file's line",
     {"hostname": "web1", "app_name": "sshd", "procid": "1"}),
    ("Nov 22 10:00:00 web1 sshd[1]: a file's line", TEN, "a file's line",
     {"hostname": "web1", "app_name": "sshd", "procid": "1"}),
    ("2026-11-22 10:00:00,123 web1 app: Python's asctime", TEN + ".123", "Python's asctime",
     {"hostname": "web1", "app_name": "app"}),
    # util-linux logger: --rfc3164, /dev/log, -i, and with one space before the day
    ("<13>Nov  2 10:00:00 laptop joe: hello", "2026-11-02 10:00:00", "hello",
     {"hostname": "laptop", "app_name": "joe"}),
    ("<13>Nov 2 10:00:00 laptop joe: hello", "2026-11-02 10:00:00", "hello",
     {"hostname": "laptop", "app_name": "joe"}),
    ("<13>Nov 22 10:00:00 joe: hello", TEN, "hello", {"app_name": "joe"}),
    ("<13>Nov 22 10:00:00 joe[812]: hello", TEN, "hello", {"app_name": "joe", "procid": "812"}),
    # busybox
    ("<29>Nov 22 10:00:00 openwrt crond[1183]: USER root pid 2211 cmd /usr/bin/check", TEN,
     "USER root pid 2211 cmd /usr/bin/check", {"hostname": "openwrt", "app_name": "crond", "procid": "1183"}),
    ("<46>Nov 22 10:00:00 syslogd started: BusyBox v1.36.1", TEN, "BusyBox v1.36.1",
     {"hostname": "syslogd", "app_name": "started"}),
    # daemons
    ("<38>Nov 22 10:00:00 bastion sshd[2914]: Failed password for invalid user admin from 203.0.113.5 port 40022 ssh2",
     TEN, "Failed password for invalid user admin from 203.0.113.5 port 40022 ssh2",
     {"hostname": "bastion", "app_name": "sshd", "procid": "2914"}),
    ("<22>Nov 22 10:00:00 mail postfix/smtpd[3001]: connect from unknown[203.0.113.5]", TEN,
     "connect from unknown[203.0.113.5]", {"hostname": "mail", "app_name": "postfix/smtpd", "procid": "3001"}),
    ("<22>Nov 22 10:00:00 mail dovecot: imap-login: Login: user=<joe>", TEN, "imap-login: Login: user=<joe>",
     {"hostname": "mail", "app_name": "dovecot"}),
    ("<78>Nov 22 10:00:00 web1 CRON[4001]: (root) CMD (test -x /usr/sbin/anacron)", TEN,
     "(root) CMD (test -x /usr/sbin/anacron)", {"hostname": "web1", "app_name": "CRON", "procid": "4001"}),
    ("<6>Nov 22 10:00:00 web1 kernel: [12345.678901] usb 1-1: new high-speed USB device", TEN,
     "[12345.678901] usb 1-1: new high-speed USB device", {"hostname": "web1", "app_name": "kernel"}),
    ("<134>Nov 22 10:00:00 lb1 haproxy[912]: 192.0.2.9:51234 [22/Nov/2026:10:00:00.123] http-in web/web1 0/0/1", TEN,
     "192.0.2.9:51234 [22/Nov/2026:10:00:00.123] http-in web/web1 0/0/1",
     {"hostname": "lb1", "app_name": "haproxy", "procid": "912"}),
    ("<134>Nov 22 10:00:00 haproxy[912]: Proxy http-in started.", TEN, "Proxy http-in started.",
     {"app_name": "haproxy", "procid": "912"}),
    ("<30>Nov 22 10:00:00 web1 systemd[1]: Started Daily apt download activities.", TEN,
     "Started Daily apt download activities.", {"hostname": "web1", "app_name": "systemd", "procid": "1"}),
    ("<30>Nov 22 10:00:00 ns1 named[811]: client @0x7f 192.0.2.9#53311 (example.com): query", TEN,
     "client @0x7f 192.0.2.9#53311 (example.com): query", {"hostname": "ns1", "app_name": "named", "procid": "811"}),
    ("<85>Nov 22 10:00:00 web1 sudo:      joe : TTY=pts/0 ; USER=root", TEN, "     joe : TTY=pts/0 ; USER=root",
     {"hostname": "web1", "app_name": "sudo"}),
    ('<30>Nov 22 10:00:00 web1 dockerd: time="2026-11-22T10:00:00Z" level=info', TEN,
     'time="2026-11-22T10:00:00Z" level=info', {"hostname": "web1", "app_name": "dockerd"}),
    ("<5>Nov 22 10:00:00 web1 last message repeated 3 times", TEN, "last message repeated 3 times",
     {"hostname": "web1"}),
    ("<46>Nov 22 10:00:00 web1 -- MARK --", TEN, "-- MARK --", {"hostname": "web1"}),
    # Python's SysLogHandler, without and with an ident
    ("<14>a message of SysLogHandler\0", "", "a message of SysLogHandler", {}),
    ("<14>myprog: a message of SysLogHandler\0", "", "a message of SysLogHandler", {"app_name": "myprog"}),
    ("<11>myprog[77]: Traceback (most recent call last)", "", "Traceback (most recent call last)",
     {"app_name": "myprog", "procid": "77"}),
    # RFC 3164 section 5.4
    ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8", "2026-10-11 22:14:15",
     "'su root' failed for lonvick on /dev/pts/8", {"hostname": "mymachine", "app_name": "su"}),
    ("<165>Aug 24 05:34:00 1987 mymachine myproc[10]: %% It's time", "1987-08-24 05:34:00", "%% It's time",
     {"hostname": "mymachine", "app_name": "myproc", "procid": "10"}),
    ("<0>1990 Oct 22 10:52:01 TZ-6 scapegoat.dmz.example.org", "1990-10-22 10:52:01", "scapegoat.dmz.example.org",
     {"hostname": "TZ-6"}),
]  # fmt: skip

ODD: list[Row] = [
    ("<13>", "", "", {}),
    ("<13>Nov 22 10:00:00", TEN, "", {}),
    ("<13>Nov 22 10:00:00 hello", TEN, "hello", {}),
    ("<13>Nov 22 10:00:00 host app:", TEN, "", {"hostname": "host", "app_name": "app"}),
    ("<13>Nov 22 10:00:00 host app: ", TEN, "", {"hostname": "host", "app_name": "app"}),
    ("<13>Nov 22 10:00:00 host app[]: x", TEN, "x", {"hostname": "host", "app_name": "app"}),
    ("<13>Nov 22 10:00:00 host app[12] x", TEN, "x", {"hostname": "host", "app_name": "app", "procid": "12"}),
    ("<13>Nov 22 10:00:00 host app[12]:x", TEN, "x", {"hostname": "host", "app_name": "app", "procid": "12"}),
    ("<13>Nov 22 10:00:00 - app: x", TEN, "x", {"app_name": "app"}),
    ("<13>Nov 22 10:00:00 2001:db8::7 app: x", TEN, "x", {"hostname": "2001:db8::7", "app_name": "app"}),
    ("<13>Nov 22 10:00:00 host see http://example.com: x", TEN, "see http://example.com: x", {"hostname": "host"}),
    ("<13>Nov 22 10:00:00 host app: %SYS-5-X: x", TEN, "x", {"hostname": "host", "app_name": "app",
     "msgid": "%SYS-5-X"}),
    ("<13>Nov 22 10:00:00 host a[1]:b: x", TEN, "b: x", {"hostname": "host", "app_name": "a", "procid": "1"}),
    ("<13>Nov 22 10:00:00 UTC host app: x", TEN, "x", {"hostname": "host", "app_name": "app"}),
    ("<13>Nov 22 10:00:00 (no host) x", TEN, "(no host) x", {}),
    ("<13>Nov 22 10:00:60 host app: x", "2026-11-22 10:00:59", "x", {"hostname": "host", "app_name": "app"}),
    ("<13>Nov 22 9:00:00 host app: x", "2026-11-22 09:00:00", "x", {"hostname": "host", "app_name": "app"}),
    ("<013>Nov 22 10:00:00 host app: x", TEN, "x", {"hostname": "host", "app_name": "app"}),
    ("<13>Nov 22 10:00:00 host app: a\nb", TEN, "a\nb", {"hostname": "host", "app_name": "app"}),
    ("<13>Nov 22 10:00:00 host app: x\r\n", TEN, "x", {"hostname": "host", "app_name": "app"}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "time", "message", "fields"), CISCO + DEVICES + PROGRAMS + ODD)
def test_a_line_of_the_real_world_is_read(line: str, time: str, message: str, fields: dict[str, Any]) -> None:
    """Alone and in company, through the fast path or not, the parts are these."""
    event = decode(line)
    assert (event.message, event.time) == (message, utc(time) if time else RECEIVED)
    assert {key: value for key, value in event.fields.items() if key not in PRIORITY_KEYS} == fields
    decoder = SyslogDecoder()
    for _ in range(2):
        events = decoder.decode(batch(b"<13>Nov 22 10:00:00 other app: y", line.encode()))
        assert events[1].replace(id=event.id) == event


def test_the_priority_is_facility_and_severity() -> None:
    fields = decode("<34>Oct 11 22:14:15 mymachine su: x").fields
    assert [fields[key] for key in PRIORITY_KEYS] == ["auth", 4, "crit", 2]


@pytest.mark.parametrize("line", ["Nov 22 10:00:00 host app: x", "hello", "", "<999>Nov 22 10:00:00 host app: x"])
def test_without_a_readable_priority_it_is_user_notice(line: str) -> None:
    """RFC 3164 section 4.3.3."""
    fields = decode(line).fields
    assert [fields[key] for key in PRIORITY_KEYS] == ["user", 1, "notice", 5]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("hello", "neither a priority nor a time stamp at its start"),
        ("sshd[12]: hello", "neither a priority nor a time stamp at its start"),
        ("12: hello", "neither a priority nor a time stamp at its start"),
        ("", "the frame is empty"),
        ("<13", "neither a priority nor a time stamp at its start"),
        ("<>x", "the priority <> is not one from <0> to <191>"),
        ("<192>x", "the priority <192> is not one from <0> to <191>"),
        ("<0013>x", "the priority <0013> is not one from <0> to <191>"),
        ("<-1>x", "the priority <-1> is not one from <0> to <191>"),
        ("<\u0661>x", "the priority <\u0661> is not one from <0> to <191>"),
        ("<html>", "the priority <html> is not one from <0> to <191>"),
        ("<13>Nov 31 10:00:00 host app: x", "RFC 3164: time stamp: there is no such time"),
        ("<13>Nov 22 24:00:00 host app: x", "RFC 3164: time stamp: there is no such time"),
        ("<13>Foo 22 10:00:00 host app: x", "RFC 3164: time stamp: 'Foo' is no month"),
    ],
)
def test_what_cannot_be_read_is_an_event_with_the_line_and_the_error(line: str, error: str) -> None:
    event = decode(line)
    assert (event.type, event.message, event.time, event.raw) == ("syslog", line, RECEIVED, line)
    assert event.fields["error"] == error
    assert set(event.fields) - {"error"} == set(PRIORITY_KEYS)


@pytest.mark.parametrize(
    ("received", "stamp", "year"),
    [
        ("2026-01-01 00:00:05", "Dec 31 23:59:59", 2025),
        ("2025-12-31 23:59:59", "Jan  1 00:00:01", 2026),
        ("2026-11-22 10:00:00", "Nov 22 10:00:00", 2026),
        ("2026-11-22 10:00:00", "Nov 29 23:59:59", 2026),
        ("2026-11-22 10:00:00", "Nov 30 00:00:00", 2025),
        ("2026-11-22 10:00:00", "Nov 21 10:00:00", 2026),
        ("2026-11-22 10:00:00", "Jan  1 00:00:00", 2026),
        ("2026-11-22 10:00:00", "Feb 29 10:00:00", 2024),
        ("2024-02-28 10:00:00", "Feb 29 10:00:00", 2024),
        ("2104-02-28 10:00:00", "Feb 29 10:00:00", 2104),
        ("2103-02-28 10:00:00", "Feb 29 10:00:00", 2096),
        ("9999-12-31 10:00:00", "Dec 31 10:00:00", 9999),
    ],
)
def test_the_year_is_the_latest_that_is_at_most_a_week_ahead(received: str, stamp: str, year: int) -> None:
    event = decode(f"<13>{stamp} host app: x", utc(received))
    assert (event.time.year, event.fields.get("error")) == (year, None)


def test_remembered_times_are_forgotten_when_the_day_changes() -> None:
    decoder = SyslogDecoder()
    line = b"<13>Nov 22 10:00:00 host app: x"
    years = [decoder.decode(batch(line, received=utc(f"{day} 10:00:00")))[0].time.year
             for day in ("2026-11-22", "2027-11-21", "2027-11-01", "2026-11-22")]  # fmt: skip
    assert years == [2026, 2027, 2026, 2026]


def test_the_year_can_be_fixed() -> None:
    assert decode("<13>Nov 22 10:00:00 host app: x", year=2019).time == utc("2019-11-22 10:00:00")
    assert decode("<13>Nov 22 2020 10:00:00 host app: x", year=2019).time == utc("2020-11-22 10:00:00")
    assert "error" in decode("<13>Feb 29 10:00:00 host app: x", year=2019).fields


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("Jul 22 10:00:00", "2026-07-22 08:00:00"),
        ("Nov 22 10:00:00", "2026-11-22 09:00:00"),
        ("Nov 22 10:00:00 UTC", "2026-11-22 10:00:00"),
        ("2026-07-22T10:00:00", "2026-07-22 08:00:00"),
        ("2026-07-22T10:00:00Z", "2026-07-22 10:00:00"),
        ("2026-07-22 10:00:00 +0000", "2026-07-22 10:00:00"),
        ("Oct 25 02:30:00", "2026-10-25 00:30:00"),
    ],
)
def test_the_time_zone_is_a_setting_for_stamps_without_one(stamp: str, time: str) -> None:
    """An hour that comes twice in autumn is taken for the first."""
    assert decode(f"<13>{stamp} host app: x", time_zone="Europe/Paris").time == utc(time)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"time_zone": "Europe/Pariss"}, "time_zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"year": 26}, "year"),
        ({"year": "now"}, "year"),
        ({"encoding": "utf-99"}, "encoding"),
    ],
)
def test_wrong_settings_are_refused(table: dict[str, Any], key: str) -> None:
    made, problems = options.parse(SyslogOptions, table)
    assert made is None
    assert [name for name, _ in problems] == [key]


def test_the_command_line_can_name_a_year() -> None:
    made, problems = options.parse(SyslogOptions, {"year": "2019"}, strict=False)
    assert problems == []
    assert made is not None
    assert made.year == 2019


def test_what_pythons_own_handler_sends_is_read() -> None:
    """`logging.handlers.SysLogHandler`: no time stamp, no host, NUL at the end."""
    handler = logging.handlers.SysLogHandler.__new__(logging.handlers.SysLogHandler)
    priority = handler.encodePriority(handler.LOG_LOCAL3, handler.mapPriority("WARNING"))
    event = decode(f"<{priority}>disk is full\0")
    assert (event.message, event.fields["facility"], event.fields["severity"]) == ("disk is full", "local3", "warning")


_starts = st.sampled_from(["<13>Nov 22 10:00:00", "<13>2026-11-22T10:00:00Z", "<192>Nov 22 10:00:00", "<13>", ""])
_hosts = st.sampled_from(
    ["host", "-", "2001:db8::7", "2026", "UTC", "+0100", "app:", "app[1]", ":", "", "\u00fc", "29:", "[1]"]
)
_tags = st.sampled_from(
    ["app:", "app[1]:", "a[1]:b:", "a[:", "%SYS-5-X:", "-:", ":", "\t:", "a]:", "a:b:", "no tag:", "word", ""]
)
_messages = st.sampled_from(["text", "x: y", "%SYS-5-X: y", ": %SYS-5-X: y", "%", ":", "", " ", "[1]: z"])


@given(st.tuples(_starts, _hosts, _tags, _messages))
def test_the_fast_path_reads_what_the_grammar_reads(parts: tuple[str, ...]) -> None:
    """Whatever the fast path takes, it takes as the full grammar does."""
    line = " ".join(parts)
    rule = YearRule("auto", dt.UTC)
    rule.begin(RECEIVED.date())
    time, message, fields, error = read_line(line, rule)
    for count in (1, 10):
        event = SyslogDecoder().decode(batch(*[line.encode()] * count))[-1]
        assert (event.time, event.message) == (time or RECEIVED, message)
        assert event.fields == (fields if error is None else {**fields, "error": error})


@pytest.mark.parametrize(
    "pattern",
    [
        "<13>{} ",
        "<13>Nov 22 10:00:00 {}",
        "<13>Nov 22 10:00:00 h {}",
        '<13>1 - h a p m [a b="{}',
        "<13>1 - h a p m {}",
        "{}",
    ],
)
@pytest.mark.parametrize(
    "unit", [" ", "a", "1", "1: ", "a: ", ":", "[a]", '" ', "\\", "-1", "%A-1", ' a="b"', '[a b="c"]', "] "]
)
def test_hostile_lines_take_no_more_time_than_their_length_allows(pattern: str, unit: str) -> None:
    """64 KiB of what makes careless patterns backtrack take far below a second."""
    line = pattern.format(unit * (65536 // len(unit)))
    started = clock.thread_time()
    decode(line)
    assert clock.thread_time() - started < 0.5
