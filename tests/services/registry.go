package services

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"
)

// SchemaRegistry is an Apicurio Registry behind its Confluent-compatible API.
type SchemaRegistry struct {
	*Server
	// URL is where the Confluent-compatible API begins. It has a path.
	URL string
	// User and Password are empty without basic authentication.
	User, Password string
}

// RegistryOptions changes how a registry is started.
type RegistryOptions struct {
	// Dir keeps the data and the log; empty for a temporary folder that Close
	// removes.
	Dir string
	// Persistent keeps the schemas over restarts, in Dir.
	Persistent bool
	// User and Password ask for basic authentication on every request.
	User, Password string
	// TLS is the server's certificate; with it plain HTTP is off.
	TLS *Identity
	// Compatibility is the global level; BACKWARD, Confluent's default, when
	// empty.
	Compatibility string
}

// registryHome returns the folder with the registry's program.
func registryHome(ctx context.Context) (string, error) {
	return install(ctx, "apicurio-"+registryVersion, func(ctx context.Context, dir string) error {
		progress("  fetching the schema registry with Maven")
		return maven(ctx, nil, "unpack", "-Dartifact=io.apicurio:apicurio-registry-app:"+registryVersion+":tar.gz:all",
			"-DoutputDirectory="+dir)
	})
}

// StartRegistry starts a schema registry. The caller closes it.
func StartRegistry(ctx context.Context, o RegistryOptions) (*SchemaRegistry, error) {
	server, err := newServer("registry", o.Dir)
	if err != nil {
		return nil, err
	}
	r := &SchemaRegistry{Server: server, User: o.User, Password: o.Password}
	if err := r.launch(ctx, o); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *SchemaRegistry) launch(ctx context.Context, o RegistryOptions) error {
	home, err := registryHome(ctx)
	if err != nil {
		return err
	}
	runtime, err := java(ctx, 21)
	if err != nil {
		return err
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = r.port(0); err != nil {
			return err
		}
	}
	plain, secure, management := strconv.Itoa(ports[0]), strconv.Itoa(ports[1]), strconv.Itoa(ports[2])
	r.URL = "http://" + hostPort(ports[0]) + "/apis/ccompat/v7"
	r.argv = []string{runtime, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dquarkus.http.host=" + host, "-Dquarkus.http.port=" + plain,
		"-Dquarkus.management.host=" + host, "-Dquarkus.management.port=" + management,
		"-Dquarkus.http.access-log.enabled=false",
		"-Dapicurio.rules.global.compatibility=" + nonEmpty(o.Compatibility, "BACKWARD")}
	if o.Persistent {
		r.argv = append(r.argv, "-Dapicurio.datasource.url=jdbc:h2:file:"+filepath.Join(r.Dir, "schemas"))
	}
	if o.User != "" {
		r.argv = append(r.argv, "-Dquarkus.http.auth.basic=true", "-Dquarkus.security.users.embedded.plain-text=true",
			"-Dquarkus.security.users.embedded.users."+o.User+"="+o.Password,
			"-Dquarkus.security.users.embedded.roles."+o.User+"=sr-admin",
			"-Dquarkus.http.auth.permission.sr.paths=/apis/*", "-Dquarkus.http.auth.permission.sr.policy=authenticated")
	}
	if o.TLS != nil {
		r.URL = "https://" + hostPort(ports[1]) + "/apis/ccompat/v7"
		r.argv = append(r.argv, "-Dquarkus.http.ssl-port="+secure, "-Dquarkus.http.ssl.certificate.files="+o.TLS.CertFile,
			"-Dquarkus.http.ssl.certificate.key-files="+o.TLS.KeyFile, "-Dquarkus.http.insecure-requests=disabled")
	}
	r.argv = append(r.argv, "-jar", "quarkus-run.jar")
	r.workDir, r.ready = home, r.serves
	return r.Start(ctx)
}

// serves reports whether the registry lists its subjects. It trusts the
// server's certificate even when it is out of date, since tests ask for that.
func (r *SchemaRegistry) serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+"/subjects", nil)
	if err != nil {
		return err
	}
	if r.User != "" {
		request.SetBasicAuth(r.User, r.Password)
	}
	transport := &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // an expired certificate is a test's wish
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET /subjects: %s", response.Status)
	}
	return errors.Join(err, response.Body.Close())
}
