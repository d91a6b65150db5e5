"""Archives of other people: what is read, what is refused, and that nothing vanishes without a word."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile

import numpy as np
import pytest
import zstandard

from iood_helpers.bravo import archives
from iood_helpers.bravo.archives import reading, write_tar
from iood_helpers.bravo.codec import HEADER, decode_prediction, decode_samples, encode_prediction, encode_samples
from iood_helpers.errors import SubmissionError

FILES = {f"bravo_SMIYC/{i}_x.bin": bytes([i]) * (600 * i + 1) for i in range(5)}


def packed(path, files=None, form=tarfile.PAX_FORMAT, prefix=""):
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in (files or FILES).items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def content(path):
    with reading(path) as members:
        return {name: members(name) for name in members.names}


def listed(path):
    with tarfile.open(path) as archive:
        return archive.getmembers()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_every_form_of_tar_is_read(tmp_path, form, prefix):
    assert content(packed(tmp_path / "a.tar", form=form, prefix=prefix)) == FILES


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_archives_are_read_by_what_they_hold(tmp_path, compress):
    path = tmp_path / "named-anyhow"
    path.write_bytes(compress(packed(tmp_path / "a.tar").read_bytes()))
    assert content(path) == FILES
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SubmissionError, match="named-anyhow"):
        content(path)


def test_what_is_written_is_read_and_the_same_every_time(tmp_path):
    one, other = (write_tar(tmp_path / name, iter(FILES.items())) for name in ("a.tar", "b.tar"))
    assert content(one) == FILES and one.read_bytes() == other.read_bytes()


def test_long_names_in_pax_headers_are_read(tmp_path):
    files = {"bravo_ACDC/" + "x" * 300 + "/ä_x.bin": b"1"}
    assert content(packed(tmp_path / "a.tar", files)) == files


def test_an_archive_cut_anywhere_is_refused(tmp_path):
    """Also at the border between two members, where tar programs see a shorter archive."""
    whole = packed(tmp_path / "a.tar").read_bytes()
    end = max(member.offset_data + member.size for member in listed(tmp_path / "a.tar"))
    for cut in [*range(0, end + 300, 100), *range(512, end, 512)]:
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        with pytest.raises(SubmissionError, match=r"cut\.tar"):
            content(tmp_path / "cut.tar")


def test_the_end_of_an_archive_is_whole(tmp_path):
    """Two blocks of zeros or more; what was cut and patched together rarely has whole ones."""
    whole = packed(tmp_path / "a.tar").read_bytes()
    end = max(member.offset_data + -(-member.size // 512) * 512 for member in listed(tmp_path / "a.tar"))
    for size, right in ((512, False), (1000, False), (1024, True), (1030, False), (1536, True), (10_240, True)):
        (tmp_path / "end.tar").write_bytes(whole[:end] + bytes(size))
        if right:
            assert content(tmp_path / "end.tar") == FILES
        else:
            with pytest.raises(SubmissionError, match=r"end\.tar has no proper end"):
                content(tmp_path / "end.tar")


def test_a_flipped_byte_in_any_header_is_refused(tmp_path):
    whole = bytearray(packed(tmp_path / "a.tar", form=tarfile.USTAR_FORMAT).read_bytes())
    for member in listed(tmp_path / "a.tar"):
        for place in (0, 50, 124, 148, 156, 257):
            spoiled = whole.copy()
            spoiled[member.offset + place] ^= 1
            (tmp_path / "bad.tar").write_bytes(spoiled)
            with pytest.raises(SubmissionError, match=r"bad\.tar"):
                content(tmp_path / "bad.tar")


@pytest.mark.parametrize("name", ["../evil.bin", "/tmp/evil.bin", "a/../../evil.bin"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(SubmissionError, match="a path outside of it"):
        content(packed(tmp_path / "evil.tar", {name: b"x"}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        member = tarfile.TarInfo("bravo_SMIYC/a_encoded.bin")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(SubmissionError, match="a link, device or sparse file"):
        content(tmp_path / "link.tar")


def test_the_same_name_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("x/a.bin", "./x/a.bin"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    with pytest.raises(SubmissionError, match="holds x/a.bin twice"):
        content(tmp_path / "a.tar")


def test_limits_are_named(tmp_path, monkeypatch):
    path = packed(tmp_path / "a.tar")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 4)
    with pytest.raises(SubmissionError, match="more than 4 files"):
        content(path)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    monkeypatch.setattr(archives, "MAX_MEMBER", 2000)
    with pytest.raises(SubmissionError, match="4_x.bin' of 2401 bytes; at most 2000"):
        content(path)


def test_a_compressed_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    bomb = packed(tmp_path / "a.tar", {"x/zeros.bin": bytes(30_000_000)})
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(bomb.read_bytes()))
    with pytest.raises(SubmissionError, match=r"b\.tar\.gz grows beyond"):
        content(tmp_path / "b.tar.gz")


def test_an_archive_that_needs_more_memory_than_there_is(tmp_path, monkeypatch):
    """As xz files that announce a dictionary of gigabytes do on a small machine."""

    def full(_):
        raise MemoryError

    monkeypatch.setitem(archives.COMPRESSIONS, b"\xfd7zXZ\x00", full)
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(b""))
    with pytest.raises(SubmissionError, match=r"a\.tar\.xz needs more memory"):
        content(tmp_path / "a.tar.xz")


def header(name, size=0, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("lines", [b"6 a=b\n" * 1024, b"%d a=%s\n" % (70_000, b"b" * 69_991)])
def test_large_extended_headers_are_refused_unparsed(tmp_path, kind, lines):
    """Ninety kilobytes of them, compressed, would keep the parser busy for a quarter of a minute."""
    whole = header("x", len(lines), kind) + lines + bytes(-len(lines) % 512) + header("a") + bytes(1024)
    for content_before in (b"", header("first")):
        (tmp_path / "a.tar").write_bytes(content_before + whole)
        with pytest.raises(SubmissionError, match=r"a\.tar has an extended header of more than"):
            content(tmp_path / "a.tar")


def test_global_headers_that_add_up_are_refused(tmp_path):
    whole = b""
    for i in range(4):
        lines = b"".join(b"10 k%03d=v\n" % (30 * i + j) for j in range(30))
        whole += header("g", len(lines), tarfile.XGLTYPE) + lines.ljust(512, b"\0") + header(f"f{i}")
    (tmp_path / "a.tar").write_bytes(whole[:-1536] + bytes(1024))
    assert len(content(tmp_path / "a.tar")) == 3
    (tmp_path / "a.tar").write_bytes(whole + bytes(1024))
    with pytest.raises(SubmissionError, match="more than 100 global headers"):
        content(tmp_path / "a.tar")


def test_folders_count_as_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    (tmp_path / "a.tar").write_bytes(b"".join(header(f"d{i}", 0, tarfile.DIRTYPE) for i in range(6)) + bytes(1024))
    with pytest.raises(SubmissionError, match="more than 5 files"):
        content(tmp_path / "a.tar")


def test_folders_and_missing_files_are_told_apart(tmp_path):
    with pytest.raises(SubmissionError, match="is a folder, where an archive is wanted"):
        content(tmp_path)
    with pytest.raises(SubmissionError, match=r"none\.tar does not exist"):
        content(tmp_path / "none.tar")


def test_errors_of_the_reader_are_its_own(tmp_path):
    with pytest.raises(ValueError, match="mine"), reading(packed(tmp_path / "a.tar")):
        raise ValueError("mine")


# the encoded files


def test_samples_say_when_they_are_damaged():
    """Every flipped byte behind the frame's header is noticed by the checksum."""
    indices = np.unique(np.random.default_rng(0).integers(0, 90_000, 3000))
    whole = encode_samples(indices)
    for place in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[place] ^= 4
        try:
            got = decode_samples(bytes(spoiled), "s.bin")
        except SubmissionError as error:
            assert "s.bin" in str(error)
        else:
            np.testing.assert_array_equal(got, indices)


def test_what_follows_the_end_is_refused():
    whole = encode_samples(np.arange(5))
    for rest in (b"\0", b"rest", whole):
        with pytest.raises(SubmissionError, match="goes on after its end"):
            decode_samples(whole + rest)
    with pytest.raises(SubmissionError, match="was cut"):
        decode_samples(whole[:-1])


def test_files_without_checksum_are_read():
    """As the official toolkit writes them."""
    head = (3).to_bytes(3, "little") + (7).to_bytes(3, "little") + b"\x01\x02"
    for size in (True, False):
        compressor = zstandard.ZstdCompressor(level=9, write_content_size=size)
        assert decode_samples(compressor.compress(head)).tolist() == [7, 8, 10]


def test_small_files_stay_small():
    """Two kilobytes that would fill the memory are refused while they are unpacked."""
    head = (100).to_bytes(3, "little") + b"\0\0\0"
    with pytest.raises(SubmissionError, match="more than it announces"):
        decode_samples(zstandard.ZstdCompressor(9).compress(head + b"\1" * 80_000_000))
    seal = encode_prediction(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint16), np.arange(4))
    assert decode_prediction(seal)[1].size == 4
    fields = list(HEADER.unpack(seal[: HEADER.size]))
    fields[4], fields[6] = 50_000_000, 100_000_000
    body = HEADER.pack(*fields) + seal[HEADER.size : -4]
    import zlib

    with pytest.raises(SubmissionError, match="lengths that do not fit"):
        decode_prediction(body + zlib.crc32(body).to_bytes(4, "little"))


def test_too_many_samples_are_refused():
    with pytest.raises(SubmissionError, match="1048576 at most"):
        encode_samples(np.arange((1 << 20) + 1))
    assert len(decode_samples(encode_samples(np.arange(1 << 20)))) == 1 << 20
