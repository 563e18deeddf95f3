"""Python's own SysLogHandler, over UDP and TCP."""

import logging
import logging.handlers
import socket
import unittest

from harness import WithServer, eventually


class Syslog(WithServer):
    def send(self, flag, kind):
        port = self.server.ports[flag]
        handler = logging.handlers.SysLogHandler(("127.0.0.1", port), socktype=kind)
        handler.ident = f"client-{flag}: "
        # Over TCP the handler frames by a zero byte unless told otherwise; most receivers want a newline.
        if kind == socket.SOCK_STREAM:
            handler.append_nul = False
            handler.setFormatter(logging.Formatter("%(message)s\n"))
        logger = logging.getLogger(flag)
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.info("started")
        logger.error("cannot \u00e4 read %s", "x")
        handler.close()
        query = f'{{app="client-{flag}"}}'
        found = eventually(lambda: len(self.server.lines(query)) == 2 and self.server.lines(query))
        self.assertEqual([line[2] for line in found], ["started", "cannot \u00e4 read x"])

    def test_udp(self):
        self.send("syslog-udp-listen", socket.SOCK_DGRAM)

    def test_tcp(self):
        self.send("syslog-tcp-listen", socket.SOCK_STREAM)

    def test_tcp_with_zero_bytes(self):
        """As the handler frames by default."""
        port = self.server.ports["syslog-tcp-listen"]
        handler = logging.handlers.SysLogHandler(("127.0.0.1", port), socktype=socket.SOCK_STREAM)
        handler.ident = "zeros: "
        logger = logging.getLogger("zeros")
        logger.propagate = False
        logger.addHandler(handler)
        logger.error("one")
        logger.error("two")
        handler.close()
        found = eventually(lambda: len(self.server.lines('{app="zeros"}')) == 2 and self.server.lines('{app="zeros"}'))
        self.assertEqual([line[2] for line in found], ["one", "two"])


if __name__ == "__main__":
    unittest.main()
