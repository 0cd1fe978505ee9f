"""Folders in a bucket: copied there and back, only what changed; and the bucket of an account."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from carnelian.cloud.account import LAUNCH_TAG, client, explained
from carnelian.errors import CloudError
from carnelian.files import written

NOT_COPIED = ("/.", "__pycache__")


def bucket_name(account: str, region: str) -> str:
    """The bucket that launches use where none is named."""
    return f"carnelian-{account}-{region}"


def need_bucket(bucket: str, account: str, region: str) -> bool:
    """Makes the bucket, private and encrypted, where there is none; True if it was made. CloudError if it is somebody else's."""
    from botocore.exceptions import ClientError

    s3 = client("s3", region)
    try:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
        return False
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("403", "AccessDenied"):
            raise CloudError(
                f"s3://{bucket}: belongs to somebody else, or you may not use it. Give another name with --bucket"
            ) from None
        if code in ("301", "400"):
            raise CloudError(
                f"s3://{bucket}: is in another region than {region}. Give its --region, or another --bucket"
            ) from None
        if code not in ("404", "NoSuchBucket"):
            with explained(f"s3://{bucket}"):
                raise
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with explained(f"s3://{bucket}"):
        s3.create_bucket(Bucket=bucket, **place)
        s3.put_public_access_block(
            Bucket=bucket,
            PublicAccessBlockConfiguration=dict.fromkeys(
                ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
            ),
        )
        s3.put_bucket_encryption(
            Bucket=bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        )
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": LAUNCH_TAG, "Value": "bucket"}]})
    return True


def listed(bucket: str, prefix: str, region: str) -> dict[str, Any]:
    """The objects below a prefix by the rest of their names: Size, LastModified, ETag."""
    with explained(f"s3://{bucket}/{prefix}"):
        pages = client("s3", region).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        return {each["Key"][len(prefix) + 1 :]: each for page in pages for each in page.get("Contents", [])}


def files_below(folder: Path) -> dict[str, Path]:
    """The files to copy by their names below a folder: nothing hidden or half-written, a training's state before its weights."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    kept = {name: path for name, path in paths.items() if not any(part in f"/{name}" for part in NOT_COPIED)}
    return dict(sorted(kept.items(), key=lambda item: (".state." not in item[0], item[0])))


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file to copy, by its name."""
    return {name: (path.stat().st_size, path.stat().st_mtime_ns) for name, path in files_below(folder).items()}


def upload_folder(
    folder: Path,
    bucket: str,
    prefix: str,
    region: str,
    *,
    mirror: bool = False,
    seen: dict[str, tuple[int, int]] | None = None,
    done: Callable[[float], None] = lambda size: None,
) -> int:
    """Copies the new and changed files of a folder to the bucket and gives their number; `mirror` deletes there what is gone here.

    A file counts as changed when its size and time are not as in `seen`, which is kept up to date; without it, when it has
    another size than the object or was written later.
    """
    s3, there, copied = client("s3", region), listed(bucket, prefix, region), 0
    here = files_below(folder)
    with explained(f"s3://{bucket}/{prefix}"):
        for name, path in here.items():
            try:
                status = path.stat()
                stamp = status.st_size, status.st_mtime_ns
                if seen is not None:
                    same = name in there and seen.get(name) == stamp
                else:
                    same = (
                        name in there
                        and there[name]["Size"] == stamp[0]
                        and there[name]["LastModified"].timestamp() >= int(status.st_mtime)
                    )
                if not same:
                    s3.upload_file(str(path), bucket, f"{prefix}/{name}")
                    copied += 1
                if seen is not None:
                    seen[name] = stamp
                done(stamp[0])
            except FileNotFoundError:
                continue  # tidied away meanwhile, as old checkpoints are
        for name in there.keys() - here.keys() if mirror else ():
            s3.delete_object(Bucket=bucket, Key=f"{prefix}/{name}")
    return copied


def download_folder(
    bucket: str, prefix: str, folder: Path, region: str, *, done: Callable[[float], None] = lambda size: None
) -> int:
    """Copies what is below a prefix into a folder, unless a file of that size is there; gives the number of objects there."""
    s3, objects = client("s3", region), listed(bucket, prefix, region)
    for name, each in objects.items():
        path = folder / name
        if ".." in Path(name).parts or name.endswith("/"):
            continue
        if (
            not path.is_file()
            or path.stat().st_size != each["Size"]
            or path.stat().st_mtime < each["LastModified"].timestamp()
        ):
            with explained(f"s3://{bucket}/{prefix}/{name}"), written(path, "wb") as file:
                s3.download_fileobj(bucket, f"{prefix}/{name}", file)
        done(each["Size"])
    return len(objects)


def write_object(bucket: str, key: str, content: bytes, region: str) -> None:
    """Puts bytes into the bucket."""
    with explained(f"s3://{bucket}/{key}"):
        client("s3", region).put_object(Bucket=bucket, Key=key, Body=content)


def read_bucket_object(bucket: str, key: str, region: str) -> bytes | None:
    """The bytes of an object, None where there is none."""
    if key.rpartition("/")[2] not in listed(bucket, key.rpartition("/")[0], region):
        return None
    with explained(f"s3://{bucket}/{key}"):
        return client("s3", region).get_object(Bucket=bucket, Key=key)["Body"].read()


def replace_objects(bucket: str, prefix: str, content: dict[str, bytes], region: str) -> None:
    """Makes what is below a prefix these objects and no others."""
    for name, data in content.items():
        write_object(bucket, f"{prefix}/{name}", data, region)
    for name in listed(bucket, prefix, region).keys() - content.keys():
        with explained(f"s3://{bucket}/{prefix}"):
            client("s3", region).delete_object(Bucket=bucket, Key=f"{prefix}/{name}")
