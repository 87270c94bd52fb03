{{- define "opencs.labels" -}}
app.kubernetes.io/name: opencs
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "opencs.homeClaim" -}}
{{- .Values.home.existingClaim | default (printf "%s-home" .Release.Name) -}}
{{- end }}

{{- define "opencs.orchestratorImage" -}}
{{- required "set images.orchestrator to the image that docs/kubernetes.md builds, by digest (REPOSITORY@sha256:…)" .Values.images.orchestrator -}}
{{- end }}

{{/* Pod and container settings that Pod Security's level "restricted" asks for. */}}
{{- define "opencs.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.user.uid }}
runAsGroup: {{ .Values.user.gid }}
fsGroup: {{ .Values.user.gid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "opencs.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end }}

{{- define "opencs.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}
