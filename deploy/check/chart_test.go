// Package check renders the chart and reads the compose file as the tools that run them do. It is a module of its own, because those
// tools bring more modules along than Freshet has itself.
package check

import (
	"maps"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// kinds are what the chart may make, by kind. A ScaledObject belongs to KEDA, whose types are not read here.
func kinds() map[string]func() any {
	return map[string]func() any{
		"ConfigMap": func() any { return &core.ConfigMap{} }, "Service": func() any { return &core.Service{} },
		"ServiceAccount": func() any { return &core.ServiceAccount{} }, "Deployment": func() any { return &apps.Deployment{} },
		"Job": func() any { return &batch.Job{} }, "PodDisruptionBudget": func() any { return &policy.PodDisruptionBudget{} },
		"HorizontalPodAutoscaler": func() any { return &autoscaling.HorizontalPodAutoscaler{} },
		"NetworkPolicy":           func() any { return &networking.NetworkPolicy{} }, "ServiceMonitor": func() any { return &monitoring.ServiceMonitor{} },
		"ScaledObject": func() any { return &map[string]any{} },
	}
}

// render renders the chart and reads each object strictly: a field that its type does not have is an error.
func render(t *testing.T, values map[string]any) (objects map[string]any, err error) {
	t.Helper()
	chart, err := loader.Load("../chart")
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: "shop", Namespace: "data", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	objects = map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for text := range strings.SplitSeq(files[name], "\n---") {
			doc := []byte(text)
			var head struct {
				Kind     string `json:"kind"`
				Metadata struct {
					Name string `json:"name"`
				} `json:"metadata"`
			}
			if err := yaml.Unmarshal(doc, &head); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, doc)
			}
			if head.Kind == "" {
				continue // a part that is turned off
			}
			make, ok := kinds()[head.Kind]
			if !ok {
				t.Fatalf("%s makes a %s, which this test does not know", name, head.Kind)
			}
			object := make()
			if err := yaml.UnmarshalStrict(doc, object); err != nil {
				t.Fatalf("%s: %s %s: %v\n%s", name, head.Kind, head.Metadata.Name, err, doc)
			}
			objects[head.Kind+" "+head.Metadata.Name] = object
		}
	}
	return objects, nil
}

func read(t *testing.T, text string) map[string]any {
	t.Helper()
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

const least = `
settings: {kafka: {brokers: [kafka:9092]}}
datasets: {files: {users.yaml: "dataset: users\n", users.json: "{}"}}
secrets: {existingSecret: freshet}
`

func TestLeastValues(t *testing.T) {
	objects, err := render(t, read(t, least))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ConfigMap shop-freshet-datasets", "ConfigMap shop-freshet-settings", "Deployment shop-freshet-admin", "Deployment shop-freshet-worker",
		"Job shop-freshet-migrate", "PodDisruptionBudget shop-freshet-admin", "PodDisruptionBudget shop-freshet-worker",
		"Service shop-freshet-admin", "Service shop-freshet-worker", "ServiceAccount shop-freshet",
	}
	if got := slices.Sorted(maps.Keys(objects)); !slices.Equal(got, want) {
		t.Errorf("the chart makes %q", got)
	}
	settings := read(t, objects["ConfigMap shop-freshet-settings"].(*core.ConfigMap).Data["freshet.yaml"])
	if admin := settings["admin"].(map[string]any); admin["listen"] != "0.0.0.0:7789" || admin["tokens_file"] != "/etc/freshet/secrets/tokens" {
		t.Errorf("the API's settings are %v", admin)
	}
	if my := settings["mysql"].(map[string]any); my["dsn_file"] != "/etc/freshet/secrets/mysql-dsn" {
		t.Errorf("MySQL's settings are %v", my)
	}
}

// TestPods verifies what every pod must have: probes that ask the port which it opens, limits, and no rights that it does not need.
func TestPods(t *testing.T) {
	values := read(t, least)
	values["relay"] = map[string]any{"enabled": true}
	objects, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"worker", "admin", "relay"} {
		d, ok := objects["Deployment shop-freshet-"+part].(*apps.Deployment)
		if !ok {
			t.Fatalf("there is no %s", part)
		}
		pod := d.Spec.Template.Spec
		c := pod.Containers[0]
		switch {
		case c.LivenessProbe == nil || c.LivenessProbe.HTTPGet.Path != "/livez" || c.ReadinessProbe == nil || c.ReadinessProbe.HTTPGet.Path != "/readyz":
			t.Errorf("%s: probes: %v, %v", part, c.LivenessProbe, c.ReadinessProbe)
		case c.LivenessProbe.HTTPGet.Port.StrVal != c.Ports[0].Name:
			t.Errorf("%s: the probe asks %v", part, c.LivenessProbe.HTTPGet.Port)
		case c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero():
			t.Errorf("%s: resources: %v", part, c.Resources)
		case !*pod.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem || *c.SecurityContext.AllowPrivilegeEscalation || *pod.AutomountServiceAccountToken:
			t.Errorf("%s may do too much", part)
		case c.Args[0] != part:
			t.Errorf("%s runs %v", part, c.Args)
		}
		if *pod.TerminationGracePeriodSeconds < 30 {
			t.Errorf("%s is killed after %d s", part, *pod.TerminationGracePeriodSeconds)
		}
		svc := objects["Service shop-freshet-"+part].(*core.Service)
		for k, v := range svc.Spec.Selector {
			if d.Spec.Template.Labels[k] != v {
				t.Errorf("the service of %s selects %s=%s", part, k, v)
			}
		}
	}
}

func TestOptionalParts(t *testing.T) {
	values := read(t, least+`
relay: {enabled: true}
serviceMonitor: {enabled: true, token: {name: scrape}}
networkPolicy:
  enabled: true
  clients: [{namespaceSelector: {matchLabels: {team: shop}}}]
  prometheus: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
worker: {autoscaling: {kind: keda, topics: [freshet.users, freshet.orders], group: freshet}}
`)
	objects, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ServiceMonitor shop-freshet", "NetworkPolicy shop-freshet-worker", "NetworkPolicy shop-freshet-admin", "NetworkPolicy shop-freshet-relay", "ScaledObject shop-freshet-worker"} {
		if objects[name] == nil {
			t.Errorf("there is no %s in %q", name, slices.Sorted(maps.Keys(objects)))
		}
	}
	if d := objects["Deployment shop-freshet-worker"].(*apps.Deployment); d.Spec.Replicas != nil {
		t.Error("an upgrade would take the number of workers back from the autoscaler")
	}
	scaled := *objects["ScaledObject shop-freshet-worker"].(*map[string]any)
	if triggers := scaled["spec"].(map[string]any)["triggers"].([]any); len(triggers) != 2 {
		t.Errorf("KEDA gets %v", triggers)
	}
	values["worker"] = map[string]any{"autoscaling": map[string]any{"kind": "hpa", "lagMetric": "freshet_lag_records"}}
	if objects, err = render(t, values); err != nil || objects["HorizontalPodAutoscaler shop-freshet-worker"] == nil {
		t.Errorf("no autoscaler: %v", err)
	}
}

func TestWrongValuesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"settings: {kafka: {brokers: [k:1]}}\nsecrets: {existingSecret: s}":                                                       "datasets: give files",
		"settings: {kafka: {brokers: [k:1]}}\ndatasets: {existingConfigMap: d}":                                                   "secrets.existingSecret",
		"datasets: {existingConfigMap: d}\nsecrets: {existingSecret: s}":                                                          "settings.kafka.brokers",
		least + "worker: {replica: 3}":                                                                                            "replica",
		least + "image: {repository: x, digest: latest}":                                                                          "digest",
		least + "serviceMonitor: {enabled: true}":                                                                                 "serviceMonitor.token.name",
		least + "worker: {autoscaling: {kind: keda}}":                                                                             "worker.autoscaling.topics",
		"settings: {kafka: {brokers: [k:1]}}\ndatasets: {existingConfigMap: d}\nsecrets: {existingSecret: s, keys: {tokens: ''}}": "tokens is needed",
	} {
		if _, err := render(t, read(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
}
