"""Libraries of other languages verify an access token, with nothing but the issuer's address.

JavaScript (jose), Go (coreos/go-oidc) and Java (jjwt), each with tokens of both algorithms, and with a token whose
signature was changed. Needs node with npm, go, and java with mvn; the libraries are downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio

from regsvc.config.settings import TokenAlgorithm
from regsvc.postgres.connection import Connection
from regsvc.security.signing.key_store import rotate_keys
from regsvc.security.tokens import Secrets
from tests.services import PASSWORD, SECRET, run_test_service

JAVASCRIPT = """
import { createRemoteJWKSet, jwtVerify } from "jose";
const [issuer, token] = process.argv.slice(2);
const metadata = await (await fetch(`${issuer}/.well-known/oauth-authorization-server`)).json();
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri));
const { payload } = await jwtVerify(token, keys, {
  issuer: metadata.issuer, audience: issuer, typ: "at+jwt", requiredClaims: ["sub", "sid"],
});
console.log(payload.sub);
"""

GO = """
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
)

func main() {
	ctx := context.Background()
	provider, err := oidc.NewProvider(ctx, os.Args[1])
	if err != nil {
		panic(err)
	}
	token, err := provider.Verifier(&oidc.Config{ClientID: os.Args[1]}).Verify(ctx, os.Args[2])
	if err != nil {
		panic(err)
	}
	fmt.Println(token.Subject)
}
"""

JAVA = """
import io.jsonwebtoken.Jwts;
import io.jsonwebtoken.security.Jwks;
import java.net.URI;
import java.net.http.*;
import java.util.regex.*;

public class Verify {
    static String get(String url) throws Exception {
        return HttpClient.newHttpClient()
            .send(HttpRequest.newBuilder(URI.create(url)).build(), HttpResponse.BodyHandlers.ofString()).body();
    }

    public static void main(String[] arguments) throws Exception {
        String issuer = arguments[0];
        String metadata = get(issuer + "/.well-known/oauth-authorization-server");
        Matcher keys = Pattern.compile("\\"jwks_uri\\": ?\\"([^\\"]+)\\"").matcher(metadata);
        keys.find();
        var set = Jwks.setParser().build().parse(get(keys.group(1)));
        var claims = Jwts.parser()
            .requireIssuer(issuer).requireAudience(issuer)
            .keyLocator(header -> set.getKeys().stream()
                .filter(key -> key.getId().equals(header.get("kid"))).findFirst().orElseThrow().toKey())
            .build().parseSignedClaims(arguments[1]).getPayload();
        System.out.println(claims.getSubject());
    }
}
"""

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>x</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>io.jsonwebtoken</groupId><artifactId>jjwt-impl</artifactId><version>0.13.0</version></dependency>
    <dependency><groupId>io.jsonwebtoken</groupId><artifactId>jjwt-jackson</artifactId><version>0.13.0</version></dependency>
  </dependencies>
</project>
"""

Command = Sequence[str | Path]


def run(command: Command, folder: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder."""
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"},
    )


def must(command: Command, folder: Path) -> str:
    done = run(command, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_javascript(folder: Path) -> Command:
    (folder / "verify.mjs").write_text(JAVASCRIPT)
    (folder / "package.json").write_text('{"private": true}')
    must(["npm", "install", "--silent", "--no-audit", "--no-fund", "jose@6"], folder)
    return ["node", "verify.mjs"]


def build_go(folder: Path) -> Command:
    (folder / "main.go").write_text(GO)
    must(["go", "mod", "init", "verify"], folder)
    must(["go", "get", "github.com/coreos/go-oidc/v3@v3.17.0"], folder)
    must(["go", "build", "-o", "verify", "."], folder)
    return [folder / "verify"]


def build_java(folder: Path) -> Command:
    (folder / "pom.xml").write_text(POM)
    (folder / "Verify.java").write_text(JAVA)
    must(["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"], folder)
    must(["javac", "-cp", "jars/*", "Verify.java"], folder)
    return ["java", "-cp", f"jars/*{os.pathsep}.", "Verify"]


BUILDERS: dict[str, tuple[Callable[[Path], Command], tuple[str, ...]]] = {
    "JavaScript": (build_javascript, ("node", "npm")),
    "Go": (build_go, ("go",)),
    "Java": (build_java, ("java", "javac", "mvn")),
}


@pytest.mark.parametrize("language", BUILDERS)
async def test_a_token_is_verified_from_the_issuers_address_alone(
    language: str, database: str, tmp_path: Path
) -> None:
    build, programs = BUILDERS[language]
    missing = [program for program in programs if shutil.which(program) is None]
    assert not missing, f"install {', '.join(missing)} for this check"
    folder = tmp_path / "verifier"
    folder.mkdir()
    command = await trio.to_thread.run_sync(build, folder)
    algorithms: tuple[TokenAlgorithm, ...] = ("EdDSA", "ES256")
    async with run_test_service(database, tmp_path) as service:
        await service.confirm()
    for algorithm in algorithms:
        async with await Connection.connect(database) as conn, conn.transaction():
            await rotate_keys(conn, Secrets(SECRET.encode()), at_once=True, algorithm=algorithm)
        async with run_test_service(database, tmp_path) as service:
            tokens = (await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})).json()
            token = tokens["access_token"]
            issuer = service.settings.public_url
            done = await trio.to_thread.run_sync(run, [*command, issuer, token], folder)
            assert done.returncode == 0, done.stderr
            user = (
                await service.client.get("/userinfo", headers={"Authorization": f"Bearer {token}"})
            ).json()
            assert done.stdout.strip() == user["sub"]
            head, _, signature = token.rpartition(".")
            forged = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
            refused = await trio.to_thread.run_sync(run, [*command, issuer, forged], folder)
            assert refused.returncode != 0
