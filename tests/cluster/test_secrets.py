"""What may be printed of a URI, and of a text that holds some."""

import pytest

from cluster.secrets import PASSWORD, shown, without_login


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("http://me:pass@host:5000/x", "http://***@host:5000/x"),
        ("s3://me@bucket/x", "s3://***@bucket/x"),
        ("postgresql://sr:pa/ss?w@rd:x@host/db", "postgresql://***@host/db"),
        ("http://corner/x: postgresql://sr:p/w@host is away", "http://corner/x: postgresql://***@host is away"),
        ("http://host:5000/x?sig=abc%2F&b=1#c", "http://host:5000/x?sig=***&b=***#c"),
        ("mysql://host/x?Pwd=abc&sslmode=require", "mysql://host/x?Pwd=***&sslmode=require"),
        (
            "https://host/x?X-Amz-Signature=1&X-Amz-Credential=2",
            "https://host/x?X-Amz-Signature=***&X-Amz-Credential=***",
        ),
        (
            "postgresql+psycopg://sr:pass@host/x?sslpassword=word&a=b",
            "postgresql+psycopg://***@host/x?sslpassword=***&a=***",
        ),
        ("http://me:pass@host:5000", "http://***@host:5000"),
        ("http://me@host", "http://***@host"),
        ("s3://key:se@cret@bucket/x", "s3://***@bucket/x"),  # an @ that was not encoded
        (
            "s3://bucket/x?secret_key=a&region=b&session_token=c",
            "s3://bucket/x?secret_key=***&region=b&session_token=***",
        ),
        ("http://host/?API_Key=a", "http://host/?API_Key=***"),
        ("two: http://a:b@c and http://d:e@f/g", "two: http://***@c and http://***@f/g"),
        ("http://host:5000/x?a=b", "http://host:5000/x?a=***"),
        ("http://host/a@b", "http://host/a@b"),
        ("mysql://host/x?pwd=a;b&c", "mysql://host/x?pwd=***;***&***"),
        ("http://host/x?token", "http://host/x?***"),
        ("http://host/x#access_token=a&b=c", "http://host/x#access_token=***&b=***"),
        (
            "at 'http://host/x?sig=a': refused, (http://host?b=c,d).",
            "at 'http://host/x?sig=***': refused, (http://host?b=***).",
        ),
        (
            "s3://b/x?region=eu&endpoint_override=http://h:9&scheme=http",
            "s3://b/x?region=eu&endpoint_override=http://h:9&scheme=http",
        ),
        ("postgresql://sr:p/w@host/db?sslmode=require", "postgresql://***@host/db?sslmode=require"),
        (
            "postgresql+psycopg:///optuna?host=/var/run/postgresql&port=5433",
            "postgresql+psycopg:///optuna?host=/var/run/postgresql&port=5433",
        ),
        (
            "postgresql://sr@host/db?sslrootcert=/etc/ca.pem&sslkey=/home/me/key",
            "postgresql://***@host/db?sslrootcert=/etc/ca.pem&sslkey=***",
        ),
        ("what? a=b & c=d", "what? a=b & c=d"),
        ("sqlite:////home/me@here/x.db", "sqlite:////home/me@here/x.db"),
        ("", ""),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000/#/experiments/1", "http://127.0.0.1:5000/#/experiments/1"),
    ],
)
def test_logins_and_secret_values_are_masked(text: str, printed: str) -> None:
    assert shown(text) == printed
    assert shown(printed) == printed


def test_an_address_without_its_login_can_be_opened() -> None:
    assert without_login("https://me:p/ss@host:5000/x") == "https://host:5000/x"
    assert without_login("http://host:5000") == "http://host:5000"


def test_a_password_that_is_written_out_is_found() -> None:
    found = PASSWORD.search("--studies-uri=postgresql+psycopg://sr:word@host/db")
    assert found is not None and found[1] == "postgresql+psycopg://sr"
    for text in ("postgresql://sr:pa/ss@host/db", "mysql://sr:12345@host", "http://u:5000x/y@host"):
        assert PASSWORD.search(text), text
    for text in ("postgresql://sr@host/db http://host:5000/x", "http://host:5000/a@b", "redis://host:6379?a@b"):
        assert not PASSWORD.search(text), text
