"""What may be printed of a URI: everything but who logs in, and with what."""

import pytest

from cluster.secrets import shown


@pytest.mark.parametrize(
    ("uri", "printed"),
    [
        ("postgresql+psycopg://sr:pass@host/x?sslpassword=word&a=b", "postgresql+psycopg://***@host/x?sslpassword=***&a=b"),
        ("http://me:pass@host:5000", "http://***@host:5000"),
        ("http://me@host", "http://***@host"),
        ("s3://key:se@cret@bucket/x", "s3://***@bucket/x"),  # an @ that was not encoded
        ("s3://bucket/x?secret_key=a&region=b&session_token=c", "s3://bucket/x?secret_key=***&region=b&session_token=***"),
        ("http://host/?API_Key=a", "http://host/?API_Key=***"),
        ("two: http://a:b@c and http://d:e@f/g", "two: http://***@c and http://***@f/g"),
        ("http://host:5000/x?a=b", "http://host:5000/x?a=b"),
        ("http://host/a@b", "http://host/a@b"),
        ("sqlite:////home/me@here/x.db", "sqlite:////home/me@here/x.db"),
        ("", ""),
    ],
)  # fmt: skip
def test_logins_are_hidden_and_the_rest_is_shown(uri: str, printed: str) -> None:
    assert shown(uri) == printed
    assert shown(printed) == printed
