"""What a wire is given, over fakes."""

from __future__ import annotations

from collections.abc import Sequence

from gateway import ports
from gateway.auth import NoAuth
from gateway.ingress import IngressServices, IngressSettings
from sana_gateway.v1 import pool_pb2
from tests.fakes.drains import Drains
from tests.fakes.hub import FakeHub
from tests.fakes.operations import FakeOperations
from tests.fakes.peers import FakePeers
from tests.fakes.uploads import FakeUploads


def fake_services(
    hub: FakeHub,
    *,
    uploads: ports.Uploads | None = None,
    peers: FakePeers | None = None,
    settings: IngressSettings | None = None,
    pool: pool_pb2.DescribePoolResponse | None = None,
    drains: Sequence[pool_pb2.DrainActorResponse] = (),
    operations: FakeOperations | None = None,
) -> IngressServices:
    """Returns services over the fakes, listening on free ports of the loopback."""

    async def describe(_: pool_pb2.DescribePoolRequest) -> pool_pb2.DescribePoolResponse:
        return pool or pool_pb2.DescribePoolResponse()

    return IngressServices(
        hub=hub,
        uploads=uploads or FakeUploads(),
        auth=NoAuth(),
        peers=peers or FakePeers(),
        pool=describe,
        drain=Drains(drains),
        operations=operations or FakeOperations(),
        settings=settings
        or IngressSettings(grpc_address="127.0.0.1:0", http_address="127.0.0.1:0"),
    )
