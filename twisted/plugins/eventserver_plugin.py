"""What `twistd` learns about eventserver: the command, and one more reactor. Nothing heavy is imported."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

eventserver = ServiceMaker(
    "eventserver",
    "eventserver.tap",
    "A network event server: lines and datagrams in, events to your Python handlers",
    "eventserver",
)

uvloop = Reactor("uvloop", "eventserver.uvloop_reactor", "asyncio on the event loop of uvloop")
