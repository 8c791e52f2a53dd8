"""An HTTP/2 connection without a network: bytes go in, bytes come out, and streams change meanwhile.

The protocol is the library h2's. What is decided here is what h2 leaves open, and what httpcore decides in a way that
lets one request harm another: each stream has an end and an error of its own, windows are such that a stream which
nobody reads keeps none of its siblings waiting, a server that says goodbye may finish what it has begun, and a request
that cannot be said leaves nothing behind.

Source: RFC 9113; the settings are httpcore's, the windows those of Go's net/http.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import httpcore

from svcmesh.transport.http.errors import NotTaken
from svcmesh.transport.http.http2.stream import Headers, Stream

MOST = 100
"""Streams at once, if the server allows as many; beyond it another connection is better than a longer queue."""

STREAM_WINDOW = 2**22
"""Bytes that a server may send for one answer before its caller reads on."""

CONNECTION_WINDOW = 2**30
"""The same for all together: h2 renews it when half is read, so `MOST` unread streams never use it up."""

_CONFIG = h2.config.H2Configuration(validate_inbound_headers=False)
_SETTINGS = h2.settings.SettingCodes


def _nobody() -> None:
    return


class _Whole:
    """The encoder of h2's, for heads that are good or bad as a whole.

    h2 judges each header when it is encoded. Those before a bad one would be in our table and never in the server's,
    which then reads something else, or an error, in every request that follows.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def encode(self, headers: Any) -> bytes:
        """Look at all headers, then encode them."""
        return self._encoder.encode(list(headers))  # type: ignore[no-any-return]

    @property
    def header_table_size(self) -> int:
        """What the server allows."""
        return self._encoder.header_table_size  # type: ignore[no-any-return]

    @header_table_size.setter
    def header_table_size(self, size: int) -> None:
        self._encoder.header_table_size = size


class _Peer(h2.connection.H2Connection):
    """h2, except that a goodbye of the server does not end it, nor an answer of another length than was announced.

    h2 refuses every frame after GOAWAY, although the streams that it covers may still be answered (RFC 9113, 6.8), and
    takes a malformed answer for the end of the connection, although it is one of its stream (8.1.1).
    """

    def __init__(self) -> None:
        super().__init__(config=_CONFIG)
        self.encoder = _Whole(self.encoder)  # type: ignore[assignment]

    def _receive_data_frame(self, frame: Any) -> tuple[list[Any], list[h2.events.Event]]:
        try:
            found: tuple[list[Any], list[h2.events.Event]] = super()._receive_data_frame(frame)
        except h2.exceptions.InvalidBodyLengthError:
            self.acknowledge_received_data(frame.flow_controlled_length, frame.stream_id)
            event = object.__new__(h2.events.StreamReset)  # its arguments differ from one version of h2 to the next
            event.stream_id = frame.stream_id
            event.error_code = h2.errors.ErrorCodes.PROTOCOL_ERROR
            event.remote_reset = False
            with contextlib.suppress(h2.exceptions.ProtocolError):  # this was its end
                self.reset_stream(frame.stream_id, event.error_code)
            return [], [event]
        return found

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[h2.events.Event]]:
        event = h2.events.ConnectionTerminated()
        try:
            event.error_code = h2.errors.ErrorCodes(frame.error_code)
        except ValueError:
            event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]


class Conversation:
    """All streams of one connection.

    Attributes:
        greeted: the server's settings have come, so that `capacity` is what it allows.
        capacity: how many streams it carries at once; 0: it takes no more.

    Threads: one at a time.
    """

    def __init__(self) -> None:
        self.greeted = False
        self.capacity = 1
        self._closing = False
        self._broken = False
        self._goodbye: h2.events.ConnectionTerminated | None = None
        self._streams: dict[int, Stream] = {}
        self._touched: dict[Stream, None] = {}
        self._said = b""
        self._h2 = _Peer()
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                _SETTINGS.ENABLE_PUSH: 0,
                _SETTINGS.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                _SETTINGS.MAX_CONCURRENT_STREAMS: MOST,
                _SETTINGS.MAX_HEADER_LIST_SIZE: 65536,
            },
        )
        del self._h2.local_settings[_SETTINGS.ENABLE_CONNECT_PROTOCOL]  # some servers balk at it, httpcore found
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - self._h2.inbound_flow_control_window)

    @property
    def busy(self) -> bool:
        """Whether there is a stream that nobody has let go of."""
        return bool(self._streams)

    def open(self, fields: Headers, ring: Callable[[], object], *, end: bool) -> Stream:
        """Begin a request with its head; ``end``: it has no body.

        Raises:
            NotTaken: it cannot carry another one now.
            httpcore.LocalProtocolError: a head that HTTP/2 has no way to say.
        """
        if len(self._streams) >= self.capacity:
            raise NotTaken(self._goodbye or "the connection takes no more requests")
        number = self._h2.get_next_available_stream_id()
        try:
            self._h2.send_headers(number, fields, end_stream=end)
        except (h2.exceptions.TooManyStreamsError, h2.exceptions.NoAvailableStreamIDError) as error:
            raise NotTaken(error) from error
        except h2.exceptions.ProtocolError as error:
            self._unsay(number)
            raise httpcore.LocalProtocolError(error) from error
        except BaseException:  # what h2 is not prepared for, such as a name that is empty
            self._unsay(number)
            raise
        stream = self._streams[number] = Stream(number, ring)
        stream.sent = end
        if number >= self._h2.HIGHEST_ALLOWED_STREAM_ID:
            self.retire()
        return stream

    def greet(self, ring: Callable[[], object]) -> Stream:
        """Return something like a stream, which ends when the server's settings have come."""
        stream = self._streams[0] = Stream(0, ring)
        stream.sent = True
        return stream

    def window(self, stream: Stream) -> int:
        """Return how much may be sent in one piece."""
        try:
            return min(self._h2.local_flow_control_window(stream.number), self._h2.max_outbound_frame_size)
        except h2.exceptions.ProtocolError:  # it has been reset
            return 0

    def send(self, stream: Stream, data: memoryview) -> int:
        """Send as much of ``data`` as the server's windows allow; return how much that was."""
        done = 0
        while done < len(data) and not stream.over:
            size = self.window(stream)
            if size <= 0:
                break
            part = data[done : done + size]
            self._h2.send_data(stream.number, part)
            done += len(part)
        stream.starved = done < len(data)
        return done

    def end(self, stream: Stream) -> None:
        """Say that the request is complete."""
        if not stream.over:
            self._h2.end_stream(stream.number)
        stream.sent = not stream.over

    def take(self, stream: Stream) -> bytes:
        """Return the next part of the body, and let the server send as much again; nothing at the end.

        Raises:
            Exception: the stream's failure.
        """
        if stream.parts:
            data, cost = stream.parts.popleft()
            if cost:
                self._h2.acknowledge_received_data(cost, stream.number)
            return data
        if stream.failure is not None:
            raise stream.failure
        return b""

    def release(self, stream: Stream) -> None:
        """Let go of a stream; what is not complete is cancelled. Harmless the second time."""
        if self._streams.pop(stream.number, None) is None:
            return
        stream.ring = _nobody  # who waited refers to the stream: no cycle is left behind
        unread = sum(cost for _, cost in stream.parts)
        stream.parts.clear()
        if unread:
            self._h2.acknowledge_received_data(unread, stream.number)
        if not (stream.ended and stream.sent) and stream.failure is None:
            self._forget(stream.number)
        stream.fail(httpcore.ReadError("the response was closed"))

    def receive(self, data: bytes) -> None:
        """Take what has been read; nothing at all is the end of the connection."""
        if not data:
            goodbye = self._goodbye
            self.fail(lambda: httpcore.RemoteProtocolError(goodbye or "Server disconnected"))
            return
        try:
            events = self._h2.receive_data(data)
        except Exception as error:  # noqa: BLE001 - h2 lets errors of hpack and hyperframe through, and struct's
            cause = error
            self.fail(lambda: httpcore.RemoteProtocolError(cause))
            return
        for event in events:
            act = self._ACTS.get(type(event))
            if act is not None:
                act(self, event)

    def fail(self, error: Callable[[], Exception]) -> None:
        """End all streams, each with an error of its own, for the connection is broken."""
        self.retire()
        self._broken = True
        for stream in self._streams.values():
            stream.fail(error())
            self._touched[stream] = None

    def retire(self) -> None:
        """Take no more requests; those that it has may go on."""
        self._closing = True
        self.capacity = 0

    def goodbye(self) -> None:
        """Say that nothing more will come from here."""
        self.retire()
        if not self._broken:
            self._broken = True
            self._h2.close_connection()

    def outgoing(self) -> bytes:
        """Return what is to be sent now."""
        said, self._said = self._said, b""
        return said + self._h2.data_to_send()

    def touched(self) -> list[Stream]:
        """Return the streams that have changed since this was asked last."""
        found = list(self._touched)
        self._touched.clear()
        return found

    def _unsay(self, number: int) -> None:
        """Forget a stream that the server has not heard of, without a word of that: it would end the connection."""
        self._said = self.outgoing()
        self._forget(number)
        self._h2.data_to_send()

    def _forget(self, number: int) -> None:
        try:
            self._h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
        except h2.exceptions.ProtocolError:  # it has ended, or never begun
            return

    def _change(self, number: int) -> Stream | None:
        stream = self._streams.get(number)
        if stream is not None:
            self._touched[stream] = None
        return stream

    def _answered(self, event: Any) -> None:
        stream = self._change(event.stream_id)
        if stream is None:
            return
        try:
            stream.answer(event.headers)
        except ValueError as error:
            self._forget(stream.number)
            stream.fail(httpcore.RemoteProtocolError(error))

    def _data(self, event: Any) -> None:
        stream = self._change(event.stream_id)
        if stream is None or stream.over or not event.data:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        else:
            stream.parts.append((event.data, event.flow_controlled_length))

    def _ended(self, event: Any) -> None:
        stream = self._change(event.stream_id)
        if stream is not None and stream.failure is None:
            stream.ended = True

    def _reset(self, event: Any) -> None:
        stream = self._change(event.stream_id)
        if stream is not None:
            stream.fail(httpcore.RemoteProtocolError(event))

    def _window(self, event: Any) -> None:
        for stream in self._streams.values():
            if stream.starved:
                self._touched[stream] = None

    def _settings(self, event: Any) -> None:
        self.greeted = True
        if not self._closing:
            self.capacity = min(MOST, self._h2.remote_settings.max_concurrent_streams)
        if 0 in self._streams:
            self._streams[0].ended = True
            self._change(0)
        self._window(event)

    def _terminated(self, event: Any) -> None:
        """The server takes no more streams; those above the last one that it names it has not even looked at."""
        self._goodbye = event
        self.retire()
        for stream in self._streams.values():
            if stream.number > event.last_stream_id:
                stream.fail(NotTaken(event))
                self._touched[stream] = None

    _ACTS: ClassVar[dict[type[h2.events.Event], Callable[[Any, Any], None]]] = {
        h2.events.ResponseReceived: _answered,
        h2.events.DataReceived: _data,
        h2.events.StreamEnded: _ended,
        h2.events.StreamReset: _reset,
        h2.events.WindowUpdated: _window,
        h2.events.RemoteSettingsChanged: _settings,
        h2.events.ConnectionTerminated: _terminated,
    }
