"""A client for every protocol that the server speaks: what `eventserver send` is made of.

- `targets`: where to, and in which protocol. `formats`, `sources`: what is sent.
- `plain`, `relp`, `http`, `fluent`, `lumberjack`: what one connection says, without I/O. `datagrams`: without any.
- `load`: what there is to send, how fast, and what came of it. `streams`, `connections` and `packets`:
  sockets. `running`: all of it. `building`: from options to a run.
"""
