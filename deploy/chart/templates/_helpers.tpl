{{- define "trustscale.name" -}}
{{ .root.Release.Name | trunc 40 | trimSuffix "-" }}-{{ .part }}
{{- end }}

{{- define "trustscale.selector" -}}
app.kubernetes.io/name: trustscale
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "trustscale.labels" -}}
{{ include "trustscale.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* metadata of a part; .suffix names one of several things of it */}}
{{- define "trustscale.metadata" -}}
name: {{ include "trustscale.name" . }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "trustscale.labels" . | nindent 2 }}
{{- end }}

{{- define "trustscale.secret" -}}
{{ .Values.existingSecret | default (include "trustscale.name" (dict "root" . "part" "keys")) }}
{{- end }}

{{- define "trustscale.image" -}}
{{- $values := .root.Values.image -}}
{{- $digest := index $values.digests .kind -}}
{{ $values.repository }}-{{ .kind }}{{ if $digest }}@{{ $digest }}{{ else }}:{{ $values.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "trustscale.redis" -}}
{{- if .Values.redis.enabled -}}
redis://:${REDIS_PASSWORD}@{{ include "trustscale.name" (dict "root" . "part" "redis") }}:6379/0
{{- else -}}
{{ required "redis.url: the address of a Redis, or redis.enabled" .Values.redis.url }}
{{- end -}}
{{- end }}

{{- define "trustscale.podSecurity" -}}
runAsNonRoot: true
{{- with . }}
runAsUser: {{ int . }}
runAsGroup: {{ int . }}
fsGroup: {{ int . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "trustscale.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Where the pods of a part go, as .values says, and what else all pods have in common */}}
{{- define "trustscale.placement" -}}
automountServiceAccountToken: false
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- else }}
{{- $blobs := .root.Values.blobs }}
{{- if and (has .part (list "gateway" "jobs")) (not $blobs.url) (not (has "ReadWriteMany" $blobs.accessModes)) }}
# Their volume is on one node at a time.
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            app.kubernetes.io/instance: {{ .root.Release.Name }}
          matchExpressions:
            - {key: app.kubernetes.io/component, operator: In, values: [gateway, jobs]}
{{- end }}
{{- end }}
serviceAccountName: {{ .root.Values.serviceAccount.name | default (include "trustscale.name" (dict "root" .root "part" "pods")) }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "trustscale.selector" $ | nindent 8 }}
  {{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Metadata of the pods of a part, but of Redis */}}
{{- define "trustscale.podMetadata" -}}
labels:
  {{- include "trustscale.labels" . | nindent 2 }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if eq .root.Values.networkPolicy.workloadIdentity "azure" }}
  azure.workload.identity/use: "true"
  {{- end }}
{{- $annotations := .root.Values.podAnnotations }}
{{- if not (hasPrefix "worker-" .part) }}
{{- $annotations = set (deepCopy $annotations) "checksum/config" (include "trustscale.config" .root | sha256sum) }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "trustscale.envFrom" -}}
{{- with . }}
envFrom:
  {{- range . }}
  - secretRef: {name: {{ . }}}
  {{- end }}
{{- end }}
{{- end }}

{{- define "trustscale.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "trustscale.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "trustscale.selector" . | nindent 6 }}
{{- end }}

{{- /* How many pods: .replicas {min, max}; .query and .threshold for KEDA, "" for processors alone */}}
{{- define "trustscale.scaling" -}}
{{- if gt (int .replicas.min) (int .replicas.max) }}
{{- fail (printf "%s: replicas.min (%d) is above replicas.max (%d)" .part (int .replicas.min) (int .replicas.max)) }}
{{- end }}
{{- if and .root.Values.keda.enabled .query -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "trustscale.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    name: {{ include "trustscale.name" . }}
  minReplicaCount: {{ .replicas.min }}
  maxReplicaCount: {{ .replicas.max }}
  cooldownPeriod: {{ .root.Values.keda.cooldownSeconds }}
  fallback:
    failureThreshold: 3
    replicas: {{ max .replicas.min .root.Values.keda.fallbackReplicas }}
    behavior: currentReplicasIfHigher
  triggers:
    - type: prometheus
      metadata:
        serverAddress: {{ .root.Values.keda.prometheus }}
        query: {{ .query | quote }}
        threshold: {{ .threshold | quote }}
{{- else -}}
# In per cent of what is requested: above it a pod works most of the time.
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "trustscale.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "trustscale.name" . }}
  minReplicas: {{ max .replicas.min 1 }}
  maxReplicas: {{ .replicas.max }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: 120}
  behavior:
    scaleDown: {stabilizationWindowSeconds: 300}
{{- end }}
{{- end }}

{{- /* The pods of gateways and job workers, which differ in how they are started and probed */}}
{{- define "trustscale.pod" -}}
metadata:
  {{- include "trustscale.podMetadata" . | nindent 2 }}
spec:
  {{- include "trustscale.placement" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ .values.terminationGraceSeconds | default .grace }}
  securityContext:
    {{- include "trustscale.podSecurity" .root.Values.runAsUser | nindent 4 }}
  containers:
    - name: {{ .part }}
      image: {{ include "trustscale.image" (dict "root" .root "kind" "gateway") }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ .args | toJson }}
      ports:
        - {name: http, containerPort: {{ .port }}}
      env:
        - {name: TRUSTSCALE_CONFIG, value: /etc/trustscale/trustscale.toml}
        - {name: TRUSTSCALE_DATA_DIR, value: /var/lib/trustscale}
        - {name: REDIS_PASSWORD_FILE, value: /run/secrets/trustscale/redis-password}
        - {name: TRUSTSCALE_ADMIN_KEYS_FILE, value: /run/secrets/trustscale/admin-keys}
        - {name: TRUSTSCALE_CLIENT_KEYS_FILE, value: /run/secrets/trustscale/client-keys}
        {{- with .root.Values.tracing.endpoint }}
        - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
        {{- end }}
        {{- range $name, $value := merge (dict) .env .root.Values.env }}
        - {name: {{ $name }}, value: {{ $value | quote }}}
        {{- end }}
      {{- include "trustscale.envFrom" .root.Values.envFrom | nindent 6 }}
      {{- /* Not /readyz: one upscaler that is away would take all gateways out of service. */}}
      startupProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 1
        failureThreshold: 120
      readinessProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 5
        timeoutSeconds: 4
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      {{- if .pause }}
      # New requests still arrive until every proxy knows that this pod is going.
      lifecycle:
        preStop:
          exec: {command: [sleep, {{ .pause | quote }}]}
      {{- end }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        {{- include "trustscale.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/trustscale, readOnly: true}
        - {name: keys, mountPath: /run/secrets/trustscale, readOnly: true}
        - {name: data, mountPath: /var/lib/trustscale}
        {{- if not .root.Values.blobs.url }}
        - {name: blobs, mountPath: /var/blobs/trustscale}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
        - {name: uploads, mountPath: /var/tmp}
        {{- with .root.Values.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .root.Values.sidecars }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "trustscale.name" (dict "root" .root "part" "config") }}}
    - name: keys
      secret: {secretName: {{ include "trustscale.secret" .root }}, defaultMode: 0440}
    # Everything that must last is in Redis and among the blobs.
    - name: data
      emptyDir: {sizeLimit: 1Gi}
    {{- if not .root.Values.blobs.url }}
    - name: blobs
      persistentVolumeClaim:
        claimName: {{ .root.Values.blobs.existingClaim | default (include "trustscale.name" (dict "root" .root "part" "blobs")) }}
    {{- end }}
    - name: tmp
      emptyDir: {medium: Memory, sizeLimit: 64Mi}
    - name: uploads
      emptyDir: {sizeLimit: {{ .values.uploads }}}
    {{- with .root.Values.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "trustscale.config" -}}
{{- $given := include "trustscale.settings" . | fromJson }}
{{- if not (or .Values.embedded .Values.workers $given.upscalers) }}
{{- fail "embedded, workers and the upscalers of config are all empty: there would be no upscaler" }}
{{- end -}}
store = {{ include "trustscale.redis" . | quote }}
queue = {{ include "trustscale.redis" . | quote }}
blobs = {{ .Values.blobs.url | default "file:///var/blobs/trustscale" | quote }}
request_timeout_s = {{ .Values.requestTimeoutSeconds }}
{{ .Values.config }}
{{- range .Values.embedded }}

[[upscalers]]
name = {{ . | quote }}
kind = "embedded"
model = {{ . | quote }}
{{- end }}
{{- range $name, $worker := .Values.workers }}

[[upscalers]]
name = {{ $name | quote }}
kind = "worker"
urls = ["http://{{ include "trustscale.name" (dict "root" $ "part" (printf "worker-%s" $name)) }}:8001"]
concurrency = {{ include "trustscale.calls" $worker }}
cold_start_s = {{ dig "coldStartSeconds" 0 $worker }}
{{- end }}
{{ end }}

{{- /* Calls that a pool may have in flight, which are also the requests that may wait for it at once */}}
{{- define "trustscale.calls" -}}
{{- mul 2 (dig "replicas" "max" 1 .) }}
{{- end }}

{{- define "trustscale.keys" -}}
{{- $name := include "trustscale.secret" . -}}
{{- $old := (lookup "v1" "Secret" .Release.Namespace $name).data | default dict -}}
{{- range $key := list "redis-password" "admin-keys" }}
{{ $key }}: {{ index $old $key | default (randAlphaNum 48 | b64enc) }}
{{- end }}
client-keys: {{ index $old "client-keys" | default "" | quote }}
{{- end }}

{{- /* The settings in `config` */}}
{{- define "trustscale.settings" -}}
{{- $found := fromToml .Values.config }}
{{- with $found.Error }}{{ fail (printf "config is not valid TOML: %s" .) }}{{ end }}
{{- toJson $found }}
{{- end }}

{{- /* Seconds in which the slowest answer has come: those before it, its own deadline, a minute besides */}}
{{- define "trustscale.slowest" -}}
{{- $settings := include "trustscale.settings" . | fromJson }}
{{- $waiting := hasKey $settings "max_waiting" | ternary $settings.max_waiting 16 }}
{{- $rounds := divf $waiting ($settings.max_in_flight | default 2) | ceil }}
{{- mul .Values.requestTimeoutSeconds (add 1 (int $rounds)) | add 60 }}
{{- end }}

{{- /* MiB of the largest form with one image */}}
{{- define "trustscale.largest" -}}
{{- $settings := include "trustscale.settings" . | fromJson }}
{{- divf (mulf 1.25 ($settings.max_upload_bytes | default 33554432)) 1048576 | ceil | int }}
{{- end }}

{{- /* Everything but metrics and probes, below which nothing from outside is asked */}}
{{- define "trustscale.paths" -}}
/v1 /static /r /wall /calibrations /annotate /problems /docs /swagger /openapi.json /favicon.ico
{{- end }}

{{- /* The port of an address, or this one */}}
{{- define "trustscale.port" -}}
{{- regexFind ":[0-9]+(/[^/@]*)?$" .url | trimPrefix ":" | regexFind "^[0-9]+" | default .default }}
{{- end }}

{{- /* Egress: names, in pods or caches on the node, which some networks see under the address of the service */}}
{{- define "trustscale.dns" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
  to:
    - namespaceSelector: {}
    {{- range .Values.networkPolicy.dns }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
{{- end }}

{{- /* Egress: traces */}}
{{- define "trustscale.traces" -}}
- to:
    - {{- toYaml .Values.tracing.peer | nindent 6 }}
  ports: [{port: {{ include "trustscale.port" (dict "url" .Values.tracing.endpoint "default" "4318") }}}]
{{- end }}

{{- define "trustscale.policy" -}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "trustscale.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "trustscale.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end }}
{{- define "trustscale.peer" -}}
- podSelector:
    matchLabels:
      {{- include "trustscale.selector" . | nindent 6 }}
{{- end }}

{{- /* What picks this release's series of a metric */}}
{{- define "trustscale.series" -}}
{{- printf "namespace=%q,release=%q" .Release.Namespace .Release.Name }}
{{- end }}
