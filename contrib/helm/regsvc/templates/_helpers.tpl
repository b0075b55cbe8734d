{{- define "regsvc.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "regsvc.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "regsvc.name" .) .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "regsvc.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "regsvc.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* What a Service, a budget or a policy finds pods by; takes a root and a role. */}}
{{- define "regsvc.selector" -}}
app.kubernetes.io/name: {{ include "regsvc.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "regsvc.labels" -}}
{{ include "regsvc.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Whether a role reads a setting: workers send mail, the API answers requests. */}}
{{- define "regsvc.reads" -}}
{{- $worker := "^REGSVC_(SMTP_|MAIL_URL$|DKIM_|FEEDBACK_IMAP_|ACCEPT_FOREIGN_MAIL$|FOREIGN_)" -}}
{{- $api := "^REGSVC_(OIDC_|HOOK_|FEEDBACK_(SES|POSTMARK|SENDGRID|MAILGUN|RESEND|MESSAGE)$)" -}}
{{- if not (regexMatch (ternary $worker $api (eq .role "api")) .name) }}yes{{ end }}
{{- end }}

{{/* YAML makes true of `on`, and Helm a float of every number. */}}
{{- define "regsvc.value" -}}
{{- if kindIs "bool" . -}}
{{ ternary "on" "off" . }}
{{- else if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end }}
{{- end }}

{{- define "regsvc.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "regsvc.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The api or the workers; takes a root, a role, its values, and whether something else sets the number of pods. */}}
{{- define "regsvc.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "regsvc.fullname" .root }}-{{ .role }}
  labels: {{- include "regsvc.labels" . | nindent 4 }}
spec:
  {{- if not .scaled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  selector:
    matchLabels: {{- include "regsvc.selector" . | nindent 6 }}
  # One more, then one less: nothing waits for a pod that is not there yet.
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata:
      labels:
        {{- include "regsvc.selector" . | nindent 8 }}
        {{- with .values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      automountServiceAccountToken: false
      # Kubernetes would set REGSVC_PORT and the like for Services called regsvc.
      enableServiceLinks: false
      # The pause before SIGTERM, one second of 503 at /readyz, 20 s to finish, and some to spare.
      terminationGracePeriodSeconds: 45
      securityContext: {{- include "regsvc.podSecurity" . | nindent 8 }}
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "regsvc.selector" . | nindent 14 }}
      containers:
        - name: regsvc
          image: {{ include "regsvc.image" .root | quote }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args: [serve, --role, {{ .role }}]
          env:
            - {name: REGSVC_HTTP_HOST, value: "*"}
            - {name: REGSVC_HTTP_PORT, value: "8080"}
            {{- $role := .role }}
            {{- range $name, $value := .root.Values.settings }}
            {{- if include "regsvc.reads" (dict "role" $role "name" $name) }}
            - name: {{ $name }}
              value: {{ include "regsvc.value" $value | quote }}
            {{- end }}
            {{- end }}
            {{- range $name, $key := .root.Values.secrets.files }}
            {{- if include "regsvc.reads" (dict "role" $role "name" $name) }}
            - name: {{ $name }}_FILE
              value: /etc/regsvc/secrets/{{ $key }}
            {{- end }}
            {{- end }}
          ports:
            - {name: http, containerPort: 8080}
          {{- if eq .role "api" }}
          # Requests still come until every node knows that the pod has left the Service.
          lifecycle:
            preStop: {exec: {command: [python, -ISc, "import time; time.sleep(5)"]}}
          {{- end }}
          startupProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          resources: {{- toYaml .values.resources | nindent 12 }}
          securityContext: {{- include "regsvc.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: secrets, mountPath: /etc/regsvc/secrets, readOnly: true}
            - {name: tmp, mountPath: /tmp}
            {{- with .root.Values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: secrets
          secret:
            secretName: {{ .root.Values.secrets.name }}
            defaultMode: 0440
            items:
              {{- range $name, $key := .root.Values.secrets.files }}
              {{- if include "regsvc.reads" (dict "role" $role "name" $name) }}
              - {key: {{ $key | quote }}, path: {{ $key | quote }}}
              {{- end }}
              {{- end }}
        - name: tmp
          emptyDir: {medium: Memory, sizeLimit: 32Mi}
        {{- with .root.Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{- define "regsvc.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "regsvc.fullname" .root }}-{{ .role }}
  labels: {{- include "regsvc.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "regsvc.selector" . | nindent 6 }}
{{- end }}
