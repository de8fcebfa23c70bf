{{/* Labels by which a component's pods are selected; takes (root, component). */}}
{{- define "modelyard.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: modelyard
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of every object; takes (root, component). */}}
{{- define "modelyard.labels" -}}
{{- $root := index . 0 -}}
{{ include "modelyard.selector" . }}
app.kubernetes.io/part-of: modelyard
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image: the whole reference where one is given; takes (root, name, reference). */}}
{{- define "modelyard.image" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
{{- $registry := trimSuffix "/" $image.registry -}}
{{- $name := printf "modelyard-%s:%s" (index . 1) ($image.tag | default $root.Chart.AppVersion) -}}
{{- index . 2 | default (ternary (printf "%s/%s" $registry $name) $name (ne $registry "")) -}}
{{- end }}

{{/* What all our pods have in common: they are no one in particular, and Services of the namespace put nothing
     into their environment, where names such as MODELYARD_GATEWAY_PORT would be taken for settings. */}}
{{- define "modelyard.pod" -}}
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* What all our containers have in common. */}}
{{- define "modelyard.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Where a component's pods run; takes its values. */}}
{{- define "modelyard.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
