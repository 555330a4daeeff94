"""Each machine's pipeline, as text; what exists here is parsed by GStreamer itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import gstworld
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sources import SourceOptions, parse_url
from streamer.sources.address import SCHEMES
from streamer.sources.gstreamer_library import elements, gstreamer, install
from streamer.sources.gstreamer_plan import H264, H265, JPEG, RAW, describe, head, lacking, tails

BASE = {"rtspsrc", "parsebin", "h264parse", "h265parse", "jpegparse", "decodebin", "appsink"}
SOFTWARE = BASE | {"avdec_h264", "avdec_h265", "avdec_mjpeg", "jpegdec"}
JETSON = SOFTWARE | {"nvv4l2decoder", "nvvidconv"}
DEEPSTREAM = SOFTWARE | {"nvv4l2decoder", "nvvideoconvert"}
NVIDIA = SOFTWARE | {"nvh264dec", "nvh265dec", "cudaconvertscale", "cudadownload"}
INTEL = SOFTWARE | {"vah264dec", "vah265dec", "vapostproc"}
OLD_INTEL = SOFTWARE | {"vaapidecodebin", "vaapipostproc"}
ROCKCHIP = SOFTWARE | {"v4l2slh264dec", "v4l2slh265dec"}
RASPBERRY = SOFTWARE | {"v4l2h264dec"}

CAMERA = parse_url("rtsp://bob:s3cret@10.0.0.5/stream1")
LIVE = SourceOptions(live=True)
SMALL = SourceOptions(live=True, size=(640, 360))


def decoding(codec: str, machine: Collection[str], options: SourceOptions = LIVE) -> str:
    """Return the tail that is tried first, without its appsink."""
    return next(tails(codec, CAMERA, options, machine)).text.rpartition(" ! appsink")[0]


@pytest.mark.parametrize(
    ("machine", "codec", "whole", "small"),
    [
        pytest.param(
            *(SOFTWARE, H264),
            "avdec_h264 max-threads=1 output-corrupt=false",
            "avdec_h264 max-threads=1 output-corrupt=false",  # scaled late, when it is certain to be wanted
            id="no hardware",
        ),
        pytest.param(
            *(JETSON, H264),
            "h264parse ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=NV12",
            "h264parse ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=NV12,width=640,height=360",
            id="Jetson",
        ),
        pytest.param(
            *(JETSON, JPEG),
            "nvv4l2decoder mjpeg=true ! nvvidconv ! video/x-raw,format=NV12",
            "nvv4l2decoder mjpeg=true ! nvvidconv ! video/x-raw,format=NV12,width=640,height=360",
            id="Jetson, MJPEG",
        ),
        pytest.param(
            *(DEEPSTREAM, H265),
            "h265parse ! nvv4l2decoder ! nvvideoconvert ! video/x-raw,format=NV12",
            "h265parse ! nvv4l2decoder ! nvvideoconvert ! video/x-raw,format=NV12,width=640,height=360",
            id="DeepStream",
        ),
        pytest.param(
            *(NVIDIA, H265),
            "h265parse ! nvh265dec",
            "h265parse ! nvh265dec ! cudaconvertscale ! video/x-raw(memory:CUDAMemory),width=640,height=360 "
            "! cudadownload",
            id="NVDEC",
        ),
        pytest.param(
            *(NVIDIA - {"cudaconvertscale"} | {"cudascale"}, H264),
            "h264parse ! nvh264dec",
            "h264parse ! nvh264dec ! cudascale ! video/x-raw(memory:CUDAMemory),width=640,height=360 ! cudadownload",
            id="NVDEC of 1.20",
        ),
        pytest.param(
            *(INTEL, H264),
            "h264parse ! vah264dec",
            "h264parse ! vah264dec ! vapostproc ! video/x-raw,format=NV12,width=640,height=360",
            id="VA-API",
        ),
        pytest.param(
            *(OLD_INTEL, H265),
            "h265parse ! vaapidecodebin ! vaapipostproc ! video/x-raw,format=NV12",
            "h265parse ! vaapidecodebin ! vaapipostproc ! video/x-raw,format=NV12,width=640,height=360",
            id="VA-API, old plugin",
        ),
        pytest.param(*(ROCKCHIP, H265), "h265parse ! v4l2slh265dec", "h265parse ! v4l2slh265dec", id="V4L2 stateless"),
        pytest.param(*(RASPBERRY, H264), "h264parse ! v4l2h264dec", "h264parse ! v4l2h264dec", id="Raspberry Pi"),
        pytest.param(*(NVIDIA, JPEG), "jpegdec", "jpegdec", id="hardware without the codec"),
        pytest.param(*(SOFTWARE, "video/x-vp9"), "decodebin", "decodebin", id="any other codec"),
    ],
)
def test_the_best_decoder_of_a_machine(machine: Collection[str], codec: str, whole: str, small: str) -> None:
    assert decoding(codec, machine) == whole
    assert decoding(codec, machine, SMALL) == small


@given(st.sets(st.sampled_from(sorted(JETSON | NVIDIA | INTEL | OLD_INTEL | ROCKCHIP | RASPBERRY))))
def test_no_plan_needs_what_a_machine_lacks(machine: set[str]) -> None:
    machine |= {"appsink", "decodebin", "h264parse"}
    for tail in tails(H264, CAMERA, SMALL, machine):
        assert not lacking(tail.text, machine)


def test_software_comes_behind_every_hardware() -> None:
    machine = JETSON | NVIDIA | INTEL
    hardware = [tail.family.hardware for tail in tails(H264, CAMERA, LIVE, machine)]
    assert hardware == sorted(hardware, reverse=True)
    assert not hardware[-1]


def test_raw_video_is_not_decoded() -> None:
    assert decoding(RAW, SOFTWARE) == ""


@pytest.mark.parametrize(
    ("url", "transport", "expected"),
    [
        ("rtsp://10.0.0.5/s", "tcp", "rtspsrc name=src protocols=tcp latency=2000 drop-on-latency=true"),
        ("rtsps://10.0.0.5/s", "udp", "rtspsrc name=src protocols=udp+udp-mcast latency=200 drop-on-latency=true"),
        ("https://10.0.0.5/cam", "tcp", "souphttpsrc name=src timeout=10 retries=0 ssl-strict=false ! parsebin"),
        ("https://10.0.0.5/live.m3u8", "tcp", "urisourcebin name=src parse-streams=true"),
        ("rtmp://10.0.0.5/a/b", "tcp", "rtmp2src name=src"),
        ("srt://10.0.0.5:9000", "tcp", "srtsrc name=src ! parsebin"),
        ("tcp://10.0.0.5:9000", "tcp", "tcpclientsrc name=src timeout=10 ! parsebin"),
        ("tcp://0.0.0.0:9000?listen=1", "tcp", "tcpserversrc name=src ! parsebin"),
        ("udp://@239.0.0.1:1234", "tcp", "udpsrc name=src buffer-size=4194304 ! parsebin"),
        ("/data/a.mp4", "tcp", "filesrc name=src ! parsebin"),
        ("/dev/video0", "tcp", "v4l2src name=src ! video/x-raw ! parsebin"),
        (
            "/dev/video0?size=1280x720&fps=29.97&format=mjpeg",
            "tcp",
            "v4l2src name=src ! image/jpeg,width=1280,height=720,framerate=30000/1001 ! parsebin",
        ),
        ("/dev/video0?format=yuyv422", "tcp", "v4l2src name=src ! video/x-raw,format=YUY2 ! parsebin"),
    ],
)
def test_how_each_address_is_read(url: str, transport: Literal["tcp", "udp"], expected: str) -> None:
    assert head(parse_url(url), SourceOptions(transport, live=True)).text.startswith(expected)


def test_a_password_never_stands_in_a_plan() -> None:
    plan = head(CAMERA, LIVE)
    assert plan.settings == {"location": "rtsp://10.0.0.5/stream1", "user-id": "bob", "user-pw": "s3cret"}
    assert "s3cret" not in repr(plan) + describe(CAMERA, LIVE, SOFTWARE, H264)
    escaped = head(parse_url("rtsp://bob:p%40ss%2F@10.0.0.5/s"), LIVE)
    assert escaped.settings["user-pw"] == "p@ss/"


@pytest.mark.parametrize("size", [None, (640, 360)])
@pytest.mark.parametrize("codec", [H264, H265, JPEG, RAW, "video/x-vp9"])
@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if scheme.gstreamer])
def test_gstreamer_understands_what_exists_here(scheme: str, codec: str, size: tuple[int, int] | None) -> None:
    if reason := gstworld.missing():
        pytest.skip(reason)
    url = {"file": "file:///a.mp4", "v4l2": "/dev/video0?size=640x480&fps=30"}.get(scheme, f"{scheme}://10.0.0.5:99/a")
    text = describe(parse_url(url), SourceOptions(live=True, size=size), elements(), codec)
    if gone := lacking(text, elements()):
        pytest.skip(f"GStreamer lacks {', '.join(gone)}; {install(gone)}")
    gst = gstreamer().Gst
    assert gst.parse_launch_full(text, None, gst.ParseFlags.FATAL_ERRORS).get_by_name("out") is not None


def test_the_line_that_installs_names_the_packages() -> None:
    assert install(["rtspsrc", "avdec_h264"]) == "apt-get install gstreamer1.0-libav gstreamer1.0-plugins-good"
    assert "gstreamer1.0-plugins-bad" in install(["unheard_of"])
