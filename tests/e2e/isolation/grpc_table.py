"""Every method of every service of the public contract, and how it is asked for what is whose."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

from google.protobuf.descriptor import MethodDescriptor

from sana_gateway import v1
from sana_gateway.v1 import (
    command_pb2,
    event_pb2,
    media_pb2,
    pool_pb2,
    replay_pb2,
    session_pb2,
    usage_pb2,
)
from tests.e2e.isolation.rows import Call, makers, operators, owners_and_operators, readers
from tests.unit.sdk_adapters.whip_offers import PLAYER

_SET_SEED: Final = command_pb2.Command(command_id="i1", set_seed=command_pb2.SetSeed(seed=5))
_OFFER: Final = session_pb2.Offer(
    sdp=PLAYER, tracks=[session_pb2.TrackMapping(mid="1", name="main_video")]
)

TABLE: Final = {
    "SessionService/CreateSession": Call(
        lambda _: [session_pb2.CreateSessionRequest(model="no-such-model")],
        who=makers,
        allowed="NOT_FOUND",
        own="NOT_FOUND",
    ),
    "SessionService/GetSession": Call(
        lambda it: [session_pb2.GetSessionRequest(session_id=it.session)]
    ),
    "SessionService/CloseSession": Call(
        lambda it: [session_pb2.CloseSessionRequest(session_id=it.session)], ends=True
    ),
    "SessionService/ForkSession": Call(
        lambda it: [session_pb2.ForkSessionRequest(session_id=it.session, copies=1)]
    ),
    "SessionService/Attach": Call(
        lambda it: [
            session_pb2.AttachRequest(
                start=session_pb2.AttachStart(session_id=it.session, resume_after_revision=0)
            ),
            session_pb2.AttachRequest(command=_SET_SEED),
        ]
    ),
    "SessionService/Execute": Call(
        lambda it: [session_pb2.ExecuteRequest(session_id=it.session, command=_SET_SEED)]
    ),
    "SessionService/Media": Call(
        lambda it: [
            media_pb2.MediaRequest(
                start=media_pb2.MediaStart(
                    session_id=it.session, publish=True, publish_codec=media_pb2.CODEC_VP8
                )
            )
        ]
    ),
    "SessionService/Signal": Call(
        lambda it: [session_pb2.SignalRequest(session_id=it.session, offer=_OFFER)]
    ),
    "SessionService/Upload": Call(
        lambda it: [
            session_pb2.UploadRequest(
                start=session_pb2.UploadStart(session_id=it.session, name="a.mp4", size=9)
            )
        ]
    ),
    "SessionService/GetUpload": Call(
        lambda it: [session_pb2.GetUploadRequest(session_id=it.session, upload_id=it.upload)]
    ),
    "PoolService/DescribePool": Call(lambda _: [pool_pb2.DescribePoolRequest()], who=operators),
    "PoolService/DescribeSession": Call(
        lambda it: [pool_pb2.DescribeSessionRequest(session_id=it.session)], who=operators
    ),
    "PoolService/EndSession": Call(
        lambda it: [pool_pb2.EndSessionRequest(session_id=it.session)], who=operators
    ),
    "PoolService/DrainActor": Call(
        lambda _: [pool_pb2.DrainActorRequest(actor_id="actor-0")], who=operators
    ),
    # What these tell whom who may ask is tested one by one.
    "EventService/WatchEvents": Call(
        lambda it: [event_pb2.WatchEventsRequest(session_id=it.session, chunks=True)],
        who=operators,
    ),
    "UsageService/ReadUsage": Call(
        lambda it: [usage_pb2.ReadUsageRequest(session_id=it.session)], who=readers
    ),
    "ReplayService/ExportJournal": Call(
        lambda it: [replay_pb2.ExportJournalRequest(session_id=it.session)],
        who=owners_and_operators,
        own="",
    ),
}
"""By service and method. A method without a row here fails a test."""


def contract() -> dict[str, MethodDescriptor]:
    """Returns the methods of all services of the contract, as the rows name them."""
    found = {}
    for module in pkgutil.iter_modules(v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"{v1.__name__}.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                found |= {f"{service.name}/{each.name}": each for each in service.methods}
    return found
